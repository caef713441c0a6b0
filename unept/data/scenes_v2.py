"""Generated scenes, second version: every object looks up its class at one of several emblems, near or far.

A scene is divided into as many cells as it has emblems (the whole picture, two halves, quarters). At an outer corner of
each cell stands one sign: a board, red or blue by the toss of a coin, on a short post. Boxes and ellipses lie anywhere.
The bright part of an object's mark points at a cell, and the board in *that* cell decides which of two look-alike
classes the object belongs to. A mirrored scene is a scene again, since its marks are mirrored too. By design:

- Who sees the object alone is right for half of its pixels, since the board's colour is independent of all else there.
- Who knows how many boards are red, and not where, is right for a share of `unplaced_accuracy`: a vector pooled over
  the picture without regard to places is not enough.
- The distance from an object to its board takes every value up to almost the picture's side, so that a mechanism that
  sees only so far is right up to there.

Lengths are in pixels and the same at every size, but for what a larger picture adds: more objects, longer ways. Signs
are one class, posts included, so that no thin class of its own weighs on mIoU. A scene depends on its configuration,
its split and its index only, and is drawn with integers and with +, -, *, / of float64, which round alike everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import comb
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from unept.data.lru_cache import LRUCache
from unept.data.sample import IGNORE, SPLITS, Bytes, Sample
from unept.data.scene_spec import DEFAULT_EMBLEMS, MAX_EMBLEMS
from unept.data.scenes import SceneConfig, horizon, scene_cache, shade, span, wave

CLASSES = ("sky", "ground", "box a", "box b", "ellipse a", "ellipse b", "sign")
PALETTE = (
    (135, 180, 220),
    (120, 105, 80),
    (230, 60, 50),
    (250, 160, 40),
    (40, 140, 60),
    (150, 210, 60),
    (200, 70, 200),
)
SKY, GROUND, BOX, ELLIPSE, SIGN = 0, 1, 2, 4, 6
LOOKALIKES = ((2, 3), (4, 5))  # pairs told apart by an emblem alone
SIZES = (64, 96, 128)  # sides of a scene
READ_FIELDS = ("scene_seed", "scene_train", "scene_val", "scene_test", "scene_size")  # of SceneConfig
NO_CUE = 255  # distance of a pixel that needs none

BOARD_WIDTH, BOARD_HEIGHT = 16, 20  # of a board
INSET = 3  # most pixels between a board and each of the two borders of its corner
POST = 2  # width of a post
POST_MOST = 10  # length of the longest post
MARK = 12  # side of an object's mark
GAP = 3  # free pixels around a board
OBJECT_LENGTHS = (19, 26)  # longest side or diameter, least and most
OBJECTS = (4, 7)  # in a scene of 64 pixels, least and most before those without room are left out
NOISE = 6  # grey levels
CAST = 0.15  # gain of each colour channel is 1 - cast .. 1 + cast

BOARD_COLOURS = ((225, 40, 60), (40, 70, 230))
MARK_COLOURS = ((20, 20, 25), (245, 245, 245))  # of the mark, and of its part that points
_FRAME = (240, 240, 240)
_POST_COLOUR = (70, 70, 80)
_COLOURS = {SKY: (150, 175, 205), GROUND: (120, 115, 95), BOX: (175, 120, 90), ELLIPSE: (105, 145, 115)}
_TRIES = 32  # candidate positions for an object
_KEPT_BYTES = 1 << 27  # bytes of scenes that a process caches for later runs
_VERSION_SEED = 2  # keeps the generators of both versions apart

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a rectangle of pixels, all four inside."""


class Scene(NamedTuple):
    """One drawn scene.

    Attributes:
        image: RGB, uint8 (S, S, 3).
        label: uint8 (S, S).
        distance: uint8 (S, S): from the mark of the object at a pixel to its board, in pixels; NO_CUE elsewhere.
    """

    image: Bytes
    label: Bytes
    distance: Bytes


@dataclass(frozen=True, kw_only=True)
class _Object:
    """An object in the picture: `mask` covers rows x columns of it, `x` and `y` are its middle."""

    rows: slice
    columns: slice
    mask: npt.NDArray[np.bool_]
    kind: int
    x: int
    y: int


class ScenesV2:
    """One split of the generated scenes of the second version (see the module)."""

    name = "scenes:v2"
    classes = CLASSES
    palette = PALETTE
    lookalikes = LOOKALIKES
    ignore = IGNORE

    def __init__(self, config: SceneConfig, split: str, emblems: int = DEFAULT_EMBLEMS) -> None:
        """Open a split.

        Args:
            config: Number, size and seed of the scenes; its other fields must be at their defaults.
            split: train, val or test.
            emblems: Emblems in a scene, 1 to 4.

        Raises:
            ValueError: One line that names what is not allowed.
        """
        if split not in SPLITS:
            raise ValueError(f"split {split!r} of scenes: expected one of {', '.join(SPLITS)}")
        if not 1 <= emblems <= MAX_EMBLEMS:
            raise ValueError(f"emblems={emblems}: expected 1 to {MAX_EMBLEMS}")
        _check(config)
        self.config = config
        self.split = split
        self.emblems = emblems
        lengths = (config.scene_train, config.scene_val, config.scene_test)
        self._length = lengths[SPLITS.index(split)]
        size, identity = config.scene_size, f"{config.scene_size} {emblems}"
        self._shared = scene_cache("scenes-v2", ((size, size, 3), (size, size), (size, size)), identity, sum(lengths))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        scene = self._scene(index)
        return Sample(image=scene.image, label=scene.label, name=f"{self.split}_{index:06d}", key=self._key(index))

    def cue_distance(self, index: int) -> Bytes:
        """Return `Scene.distance` of a scene."""
        return self._scene(index).distance

    def _scene(self, index: int) -> Scene:
        if not 0 <= index < self._length:
            raise IndexError(f"scene {index} of split {self.split!r}: expected 0 to {self._length - 1}")
        size, emblems, *seed = key = self._key(index)

        def drawn() -> tuple[Bytes, ...]:
            return draw(size, emblems, np.random.default_rng(seed))

        return Scene(*_drawn.get(key, lambda: self._shared.get(tuple(seed), drawn)))

    def _key(self, index: int) -> tuple[int, ...]:
        """Return what decides a scene: size, emblems, and the seed."""
        seed = (_VERSION_SEED, self.config.scene_seed, SPLITS.index(self.split), index)
        return (self.config.scene_size, self.emblems, *seed)


_drawn: LRUCache[tuple[Bytes, ...]] = LRUCache(_KEPT_BYTES)


def unplaced_accuracy(emblems: int) -> float:
    """Return the best expected look-alike accuracy of who knows the boards' colours, and not which stands where.

    Of `emblems` boards the object's own is as likely as any other, so that the commoner colour is the best guess.
    """
    right = sum(comb(emblems, red) * max(red, emblems - red) for red in range(emblems + 1))
    return right / (emblems * 2**emblems)


def draw(size: int, emblems: int, rng: np.random.Generator) -> Scene:
    """Draw one scene of `size` pixels with so many emblems."""
    bits = rng.integers(2, size=MAX_EMBLEMS)  # the boards' colours; also the second class of a pair where it is 1
    boards = _boards(size, emblems, rng)
    posts = rng.integers(POST_MOST + 1, size=MAX_EMBLEMS)
    labels = [SKY, GROUND]
    colours = [shade(_COLOURS[SKY], rng), shade(_COLOURS[GROUND], rng)]
    owner = np.zeros((size, size), dtype=np.int64)  # what is seen at a pixel: a row of the two tables above
    owner[np.arange(size)[:, None] >= horizon(SceneConfig(scene_size=size), rng)[None, :]] = 1
    distance = np.full((size, size), NO_CUE, dtype=np.uint8)

    def add(label: int, colour: npt.ArrayLike) -> int:
        labels.append(label)
        colours.append(np.asarray(colour, dtype=np.float64))
        return len(labels) - 1

    post = add(SIGN, _POST_COLOUR)
    for (left, _, _, bottom), length in zip(boards, posts[:emblems].tolist(), strict=True):
        column = left + (BOARD_WIDTH - POST) // 2
        owner[bottom + 1 : bottom + 1 + length, column : column + POST] = post

    for thing in _objects(size, boards, rng):
        cell = int(rng.integers(emblems))
        number = add(thing.kind + int(bits[cell]), shade(_COLOURS[thing.kind], rng))
        owner[thing.rows, thing.columns][thing.mask] = number
        distance[owner == number] = _box_distance(boards[cell], thing.x, thing.y)
        for colour, (left, top, right, bottom) in zip(MARK_COLOURS, _mark(cell, emblems), strict=True):
            at = slice(thing.y + top, thing.y + bottom + 1), slice(thing.x + left, thing.x + right + 1)
            owner[at] = add(labels[number], colour)
            distance[at] = _box_distance(boards[cell], thing.x, thing.y)

    frame = add(SIGN, _FRAME)
    for (left, top, right, bottom), bit in zip(boards, bits[:emblems].tolist(), strict=True):
        owner[top : bottom + 1, left : right + 1] = frame
        owner[top + 1 : bottom, left + 1 : right] = add(SIGN, BOARD_COLOURS[bit])

    gain = 1 + CAST * rng.uniform(-1, 1, size=3)
    table = np.rint(np.stack(colours) * gain).astype(np.int16)
    noise = rng.integers(-NOISE, NOISE + 1, size=(size, size, 3), dtype=np.int16)
    image = np.clip(table[owner] + noise, 0, 255).astype(np.uint8)
    return Scene(image, np.array(labels, dtype=np.uint8)[owner], distance)


def cells(size: int, emblems: int) -> list[Box]:
    """Return the cells in which the emblems stand: the whole picture, its halves, or its quarters."""
    half, last = size // 2, size - 1
    if emblems == 1:
        return [(0, 0, last, last)]
    if emblems == 2:
        return [(0, 0, half - 1, last), (half, 0, last, last)]
    quarters = [
        (0, 0, half - 1, half - 1),
        (half, 0, last, half - 1),
        (0, half, half - 1, last),
        (half, half, last, last),
    ]
    return quarters[:emblems]


def _mark(cell: int, emblems: int) -> tuple[Box, Box]:
    """Return an object's mark and its bright part, which points at a cell, both around the object's middle."""
    whole = (-MARK // 2, -MARK // 2, MARK // 2 - 1, MARK // 2 - 1)
    left, top, right, bottom = cells(MARK, emblems)[cell]
    return whole, (left - MARK // 2, top - MARK // 2, right - MARK // 2, bottom - MARK // 2)


def _boards(size: int, emblems: int, rng: np.random.Generator) -> list[Box]:
    """Place one board in each cell, at a corner of the picture: a toss of coins where the cell has several."""
    boards = []
    tosses = rng.integers(2, size=(MAX_EMBLEMS, 2)).tolist()
    insets = rng.integers(INSET + 1, size=(MAX_EMBLEMS, 2)).tolist()
    for cell, toss, (inset_x, inset_y) in zip(cells(size, emblems), tosses, insets, strict=False):
        left, top, right, bottom = cell
        on_right = toss[0] if right - left + 1 == size else left > 0
        below = toss[1] if bottom - top + 1 == size else top > 0
        x = size - BOARD_WIDTH - inset_x if on_right else inset_x
        y = size - BOARD_HEIGHT - inset_y if below else inset_y
        boards.append((x, y, x + BOARD_WIDTH - 1, y + BOARD_HEIGHT - 1))
    return boards


def _objects(size: int, boards: list[Box], rng: np.random.Generator) -> list[_Object]:
    """Draw boxes and ellipses, the largest first, that touch neither one another nor a board's surroundings."""
    least, most = (number * size * size // 64**2 for number in OBJECTS)
    count = int(rng.integers(least, most + 1))
    kinds = rng.integers(2, size=count)
    length = np.sort(rng.uniform(*OBJECT_LENGTHS, size=count))[::-1]
    half_u = length / 2
    half_v = half_u * rng.uniform(0.65, 1, size=count)
    tangent = rng.uniform(-1, 1, size=count)  # tangent of half the angle: -90 to 90 degrees
    cosine, sine = (1 - tangent**2) / (1 + tangent**2), 2 * tangent / (1 + tangent**2)
    phase_u, phase_v = rng.uniform(size=(2, count))
    extent_x = np.abs(cosine) * half_u + np.abs(sine) * half_v + 1
    extent_y = np.abs(sine) * half_u + np.abs(cosine) * half_v + 1
    tries = rng.integers(MARK, size - MARK, size=(count, 2, _TRIES))

    taken = [(left - GAP, top - GAP, right + GAP, bottom + GAP) for left, top, right, bottom in boards]
    objects = []
    for i in range(count):
        x, y = _free_place(tries[i], float(extent_x[i]), float(extent_y[i]), taken)
        if x < 0:
            continue
        columns, rows = span(x, extent_x[i], size), span(y, extent_y[i], size)
        taken.append((columns.start - 1, rows.start - 1, columns.stop, rows.stop))
        dx, dy = np.arange(columns.start, columns.stop)[None, :] - x, np.arange(rows.start, rows.stop)[:, None] - y
        u, v = cosine[i] * dx + sine[i] * dy, cosine[i] * dy - sine[i] * dx
        wavy_u = (u + wave(v / 6 + phase_u[i]) / 2) / half_u[i]
        wavy_v = (v + wave(u / 6 + phase_v[i]) / 2) / half_v[i]
        ellipse = bool(kinds[i])
        mask = wavy_u**2 + wavy_v**2 <= 1 if ellipse else np.maximum(np.abs(wavy_u), np.abs(wavy_v)) <= 1
        objects.append(_Object(rows=rows, columns=columns, mask=mask, kind=ELLIPSE if ellipse else BOX, x=x, y=y))
    return objects


def _free_place(tries: npt.NDArray[np.int64], extent_x: float, extent_y: float, taken: list[Box]) -> tuple[int, int]:
    """Return the first of the middles `tries` (2, n) whose surroundings are free; (-1, -1) where there is none."""
    left, top, right, bottom = np.array(taken).T[:, :, None]
    x, y = tries
    apart_x = np.maximum(left - (x + extent_x), x - extent_x - right) > 0
    apart_y = np.maximum(top - (y + extent_y), y - extent_y - bottom) > 0
    free = (apart_x | apart_y).all(axis=0)
    first = int(np.argmax(free))
    return (int(x[first]), int(y[first])) if free[first] else (-1, -1)


def _box_distance(box: Box, x: int, y: int) -> int:
    """Return the pixels from (x, y) to a rectangle, along x or along y, whichever is more: 0 inside."""
    left, top, right, bottom = box
    return max(left - x, x - right, top - y, y - bottom, 0)


def _check(config: SceneConfig) -> None:
    """Refuse a configuration that the second version cannot follow. ValueError of one line."""
    if config.scene_size not in SIZES:
        raise ValueError(f"scene_size is {config.scene_size}: expected {', '.join(map(str, SIZES))} in scenes:v2")
    for field in fields(config):
        value = getattr(config, field.name)
        if field.name not in READ_FIELDS and value != field.default:
            raise ValueError(
                f"{field.name} is {value}: scenes:v2 has it fixed, expected {field.default} (it reads "
                f"{', '.join(READ_FIELDS)})"
            )
