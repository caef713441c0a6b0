"""Generated scenes: a data set that needs no download and asks for what the paper claims to give.

Sky and ground meet in a wavy horizon; rotated boxes and ellipses of several sizes and thin poles stand before them.
In one corner hangs a small emblem, and its colour decides which of two classes *every* box, and which of two classes
every ellipse, belongs to. The two classes of a pair look the same: telling them apart takes context from far away.
Objects keep a distance from the emblem, so that a receptive field of less than that cannot see it. Labels are exact
to the pixel (no anti-aliasing).

A scene depends on its configuration, its split and its index only. It is drawn with integers and with +, -, *, / of
float64, which round alike on every machine; no sine, power or normal deviate is involved.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unept.data.lru_cache import LRUCache
from unept.data.sample import IGNORE, SPLITS, Bytes, Sample
from unept.data.shared_cache import SharedCache, shared_cache, source_digest

CLASSES = ("sky", "ground", "box a", "box b", "ellipse a", "ellipse b", "pole", "emblem")
PALETTE = (
    (135, 180, 220),
    (120, 105, 80),
    (230, 60, 50),
    (250, 160, 40),
    (40, 140, 60),
    (150, 210, 60),
    (60, 60, 70),
    (200, 70, 200),
)
SKY, GROUND, BOX, ELLIPSE, POLE, EMBLEM = 0, 1, 2, 4, 6, 7
LOOKALIKES = ((2, 3), (4, 5))  # pairs told apart by the emblem alone
CUE_CLASSES = (2, 3, 4, 5)

_COLOURS = {
    SKY: (150, 175, 205),
    GROUND: (120, 115, 95),
    BOX: (175, 120, 90),
    ELLIPSE: (105, 145, 115),
    POLE: (70, 70, 80),
}
_EMBLEM_COLOURS = ((225, 40, 60), (40, 70, 230))
_EMBLEM_FRAME = (240, 240, 240)
_TRIES = 32  # candidate positions for an object
_KEPT_BYTES = 1 << 27  # bytes of scenes that a process caches for later runs

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Difficulty of the scenes. Lengths in pixels. ValueError for values that cannot be drawn."""

    scene_seed: int = 0
    scene_train: int = 4000  # number of training scenes
    scene_val: int = 256
    scene_test: int = 256
    scene_size: int = 64  # side of a scene
    scene_emblem: int = 12  # width of the emblem
    scene_emblem_height: int = 28  # the shorter, the fewer rows see the cue straight across
    scene_cue_distance: int = 24  # a box or ellipse is at least that far from the emblem, along x or along y
    scene_objects_min: int = 2
    scene_objects_max: int = 6
    scene_object_min: int = 6  # longest side of the smallest box, longest diameter of the smallest ellipse
    scene_object_max: int = 24
    scene_detail: float = 0.5  # amplitude of the short waves on the horizon and on the objects' outlines
    scene_poles: int = 2  # at most
    scene_pole_width: int = 2
    scene_noise: int = 14  # grey levels, uniform in -noise..noise, each pixel and channel
    scene_cast: float = 0.15  # gain of each colour channel is 1 - cast .. 1 + cast, one draw a scene

    def __post_init__(self) -> None:
        for name in (
            "scene_train",
            "scene_val",
            "scene_test",
            "scene_emblem",
            "scene_emblem_height",
            "scene_object_min",
            "scene_pole_width",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 1")
        for name in (
            "scene_seed",
            "scene_cue_distance",
            "scene_objects_min",
            "scene_detail",
            "scene_poles",
            "scene_noise",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at least 0")
        for low, high in (("scene_objects_min", "scene_objects_max"), ("scene_object_min", "scene_object_max")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} is {getattr(self, low)}: expected at most {high}, {getattr(self, high)}")
        for name, most in (
            ("scene_noise", 255),
            ("scene_detail", self.scene_size),
            ("scene_pole_width", self.scene_size),
        ):
            if getattr(self, name) > most:
                raise ValueError(f"{name} is {getattr(self, name)}: expected at most {most}")
        if not 0 <= self.scene_cast <= 0.5:
            raise ValueError(f"scene_cast is {self.scene_cast}: expected 0 to 0.5")
        room = self.scene_emblem + _jitter(self) + self.scene_cue_distance + self.scene_object_max
        if self.scene_emblem_height + _jitter(self) > self.scene_size:
            raise ValueError(
                f"scene_emblem_height is {self.scene_emblem_height}: expected at most {self.scene_size - _jitter(self)}"
            )
        if room > self.scene_size:
            raise ValueError(
                f"scene_size is {self.scene_size}: expected at least {room} (emblem, its jitter, cue distance "
                f"and largest object together)"
            )


class Scenes:
    """One split of the generated scenes (see the module).

    A sample of 64 pixels takes about half a millisecond, once: a process keeps the scenes it has drawn, as read-only
    arrays, up to 128 MiB, and all processes share a file of them (`unept.data.shared_cache`).
    """

    name = "scenes"
    classes = CLASSES
    palette = PALETTE
    lookalikes = LOOKALIKES
    ignore = IGNORE

    def __init__(self, config: SceneConfig, split: str) -> None:
        """Open a split. ValueError for a split that is not one of train, val and test."""
        if split not in SPLITS:
            raise ValueError(f"split {split!r} of scenes: expected one of {', '.join(SPLITS)}")
        self.config = config
        self.split = split
        self._length = (config.scene_train, config.scene_val, config.scene_test)[SPLITS.index(split)]
        size, identity = config.scene_size, repr(sorted(asdict(config).items()))
        scenes = config.scene_train + config.scene_val + config.scene_test
        self._shared = scene_cache("scenes", ((size, size, 3), (size, size)), identity, scenes)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of split {self.split!r}: expected 0 to {self._length - 1}")
        seed = (self.config.scene_seed, SPLITS.index(self.split), index)

        def drawn() -> tuple[Bytes, Bytes]:
            return draw(self.config, np.random.default_rng([*seed]))

        key = (self.config, *seed)
        image, label = _drawn.get(key, lambda: self._shared.get(seed, drawn))
        return Sample(image=image, label=label, name=f"{self.split}_{index:06d}", key=key)


_drawn: LRUCache[tuple[Bytes, ...]] = LRUCache(_KEPT_BYTES)


def scene_cache(name: str, shapes: tuple[tuple[int, ...], ...], identity: str, scenes: int) -> SharedCache:
    """Return the file of scenes of one configuration, drawn by this package's sources with this version of NumPy.

    Args:
        name: Start of the file's name.
        shapes: Shape of each array of a scene.
        identity: The configuration as text.
        scenes: Number of scenes in all splits.
    """
    sources = sorted(map(str, Path(__file__).parent.glob("*.py")))
    return shared_cache(name, shapes, (source_digest(*sources), np.__version__, identity), 2 * scenes)


def draw(config: SceneConfig, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Draw one scene: image uint8 (S, S, 3) RGB and label uint8 (S, S)."""
    size = config.scene_size
    cue = int(rng.integers(2))  # the emblem's colour; also the second class of each pair where it is 1
    right, low = (bool(bit) for bit in rng.integers(2, size=2))
    inset_x, inset_y = (int(v) for v in rng.integers(_jitter(config) + 1, size=2))
    wide, tall = config.scene_emblem, config.scene_emblem_height
    left = size - wide - inset_x if right else inset_x
    top = size - tall - inset_y if low else inset_y

    owner = np.zeros((size, size), dtype=np.int64)  # object seen at a pixel: a row of the two tables below
    labels = [SKY, GROUND]
    colours = [shade(_COLOURS[SKY], rng), shade(_COLOURS[GROUND], rng)]
    skyline = horizon(config, rng)
    owner[np.arange(size)[:, None] >= skyline[None, :]] = 1

    for thing in _objects(config, rng, left, top):
        owner[thing.rows, thing.columns][thing.mask] = len(labels)
        labels.append(thing.kind + cue)
        colours.append(shade(_COLOURS[thing.kind], rng))
    for rows, columns in _poles(config, rng, skyline):
        owner[rows, columns] = len(labels)
        labels.append(POLE)
        colours.append(shade(_COLOURS[POLE], rng))

    owner[top : top + tall, left : left + wide] = len(labels)
    owner[top + 1 : top + tall - 1, left + 1 : left + wide - 1] = len(labels) + 1
    labels += [EMBLEM, EMBLEM]
    colours += [np.array(_EMBLEM_FRAME), np.array(_EMBLEM_COLOURS[cue])]

    gain = 1 + config.scene_cast * rng.uniform(-1, 1, size=3)
    table = np.rint(np.stack(colours) * gain).astype(np.int16)
    noise = rng.integers(-config.scene_noise, config.scene_noise + 1, size=(size, size, 3), dtype=np.int16)
    image = np.clip(table[owner] + noise, 0, 255).astype(np.uint8)
    return image, np.array(labels, dtype=np.uint8)[owner]


class _Object(NamedTuple):
    """`mask` covers the pixels `rows` x `columns` of the scene; `kind` is BOX or ELLIPSE."""

    rows: slice
    columns: slice
    mask: npt.NDArray[np.bool_]
    kind: int


def _jitter(config: SceneConfig) -> int:
    """Return the largest distance of the emblem from the two borders of its corner."""
    return config.scene_emblem // 6


def shade(colour: tuple[int, int, int], rng: np.random.Generator) -> Floats:
    """Return a slightly changed colour, so that two objects of a kind differ."""
    return np.array(colour) + rng.uniform(-14, 14) + rng.uniform(-8, 8, size=3)


def wave(turns: Floats) -> Floats:
    """Return a smooth odd wave of period 1 and amplitude 1, made of parabolas."""
    phase = 2 * (turns - np.floor(turns)) - 1
    return 4 * phase * (1 - np.abs(phase))


def horizon(config: SceneConfig, rng: np.random.Generator) -> Floats:
    """Return the first row of ground for each column: a long wave and a short one."""
    size = config.scene_size
    columns = np.arange(size) / size
    level, tall, phase_long, phase_short = rng.uniform(size=4)
    long_wave = size / 16 * (0.5 + tall) * wave(columns * 1.5 + phase_long)
    return size * (0.4 + 0.2 * level) + long_wave + config.scene_detail * wave(columns * 8 + phase_short)


def _objects(config: SceneConfig, rng: np.random.Generator, left: int, top: int) -> list[_Object]:
    """Draw boxes and ellipses, the largest first; none comes near the emblem at (left, top)."""
    size, reach = config.scene_size, config.scene_cue_distance
    count = int(rng.integers(config.scene_objects_min, config.scene_objects_max + 1))
    kinds = rng.integers(2, size=count)
    side = np.sort(rng.uniform(config.scene_object_min, config.scene_object_max, size=count))[::-1]
    half_u = side / 2
    half_v = np.maximum(half_u * rng.uniform(0.5, 1, size=count), 1)
    tangent = rng.uniform(-1, 1, size=count)  # tangent of half the angle: -90 to 90 degrees
    cosine, sine = (1 - tangent**2) / (1 + tangent**2), 2 * tangent / (1 + tangent**2)
    ripple = config.scene_detail * side / config.scene_object_max
    phase_u, phase_v = rng.uniform(size=(2, count))

    extent_x = np.abs(cosine) * (half_u + ripple) + np.abs(sine) * (half_v + ripple)
    extent_y = np.abs(sine) * (half_u + ripple) + np.abs(cosine) * (half_v + ripple)
    x, y = rng.uniform(0, size - 1, size=(2, _TRIES, count))
    gap_x = np.maximum(left - (x + extent_x), x - extent_x - (left + config.scene_emblem - 1))
    gap_y = np.maximum(top - (y + extent_y), y - extent_y - (top + config.scene_emblem_height - 1))
    fits = np.maximum(gap_x, gap_y) >= reach
    chosen = np.argmax(fits, axis=0), np.arange(count)
    x, y, kept = x[chosen], y[chosen], np.flatnonzero(fits[chosen])

    objects = []
    for i in kept:
        columns, rows = span(x[i], extent_x[i], size), span(y[i], extent_y[i], size)
        dx = np.arange(columns.start, columns.stop)[None, :] - x[i]
        dy = np.arange(rows.start, rows.stop)[:, None] - y[i]
        u = cosine[i] * dx + sine[i] * dy
        v = cosine[i] * dy - sine[i] * dx
        wavy_u = (u + ripple[i] * wave(v / 6 + phase_u[i])) / half_u[i]
        wavy_v = (v + ripple[i] * wave(u / 6 + phase_v[i])) / half_v[i]
        if kinds[i]:
            objects.append(_Object(rows, columns, wavy_u * wavy_u + wavy_v * wavy_v <= 1, ELLIPSE))
        else:
            objects.append(_Object(rows, columns, np.maximum(np.abs(wavy_u), np.abs(wavy_v)) <= 1, BOX))
    return objects


def span(middle: float, extent: float, size: int) -> slice:
    """Return the pixels from middle - extent to middle + extent that lie in the scene."""
    return slice(max(int(middle - extent), 0), min(int(middle + extent) + 1, size))


def _poles(config: SceneConfig, rng: np.random.Generator, skyline: Floats) -> list[tuple[slice, slice]]:
    """Draw row and column ranges of upright poles that stand on the ground and rise above the horizon."""
    size, width = config.scene_size, config.scene_pole_width
    poles = []
    for position, foot, height in rng.uniform(size=(int(rng.integers(config.scene_poles + 1)), 3)):
        column = int(position * max(size - width + 1, 1))
        ground = skyline[min(column, size - 1)]
        bottom = int(ground + (size - ground) * 0.6 * foot) + 1
        tall = int(size * (0.25 + 0.25 * height))
        poles.append((slice(max(bottom - tall, 0), bottom), slice(column, column + width)))
    return poles
