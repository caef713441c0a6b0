"""The paper's training pipeline (section 4.2; order and constants of the released code) and the batches it makes.

resize -> crop -> (boundary truth, unless stored) -> flip -> photometric distortion -> normalise -> pad. Every random
number comes from the generator that the caller passes, so a sample is a function of (data, seed, position) and of
nothing that happened before: a resumed run sees what an undisturbed one would have seen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, Protocol

import mmcv
import numpy as np
import numpy.typing as npt
import scipy
import torch

from unept import boundary
from unept.config import LossConfig
from unept.data.lru_cache import LRUCache
from unept.data.sample import IGNORE, Bytes, Dataset, Sample
from unept.data.shared_cache import SharedCache, shared_cache, source_digest
from unept.utils import imagenet

MEAN, STD = np.array(imagenet.MEAN), np.array(imagenet.STD)

_ORDER, _SAMPLE = 0, 1  # second word of the generators' seeds: shuffling an epoch, augmenting a sample
_REDRAWS = 10
_KEPT_BYTES = 1 << 28  # bytes of boundary maps of whole pictures that a process caches
_KEPT_ITEM_BYTES = 1 << 27  # bytes of finished samples that a process caches
_SHARED_TRUTHS = 1 << 14  # pictures whose boundary maps processes share

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class Augmentation(Protocol):
    """Fields of the training configuration that the pipeline reads (`settings.TrainConfig` has them)."""

    @property
    def scale_min(self) -> float: ...  # noqa: D102
    @property
    def scale_max(self) -> float: ...  # noqa: D102
    @property
    def base_long(self) -> int: ...  # noqa: D102
    @property
    def base_short(self) -> int: ...  # noqa: D102
    @property
    def flip(self) -> float: ...  # noqa: D102
    @property
    def photometric(self) -> bool: ...  # noqa: D102
    @property
    def category_max(self) -> float: ...  # noqa: D102


class Maps(NamedTuple):
    """A picture inside the pipeline: image uint8 (H, W, 3) BGR, the other maps uint8 (H, W)."""

    image: Bytes
    label: Bytes
    distance: Bytes | None
    angle: Bytes | None


class Item(NamedTuple):
    """One training sample: image float32 (3, S, S) RGB normalised, the other maps int64 (S, S) with 255 = ignore."""

    image: Floats
    label: Integers
    boundary: Integers
    direction: Integers


class TrainPipeline:
    """Pipeline from a labelled picture and a generator to an `Item`.

    Boundary maps of a whole picture are cached by the content of its label, for all pipelines of the process, so that
    no later epoch or run computes them again; those of a crop or another size are computed each time. Processes share
    those of pictures that are as large as the crop (`unept.data.shared_cache`). A picture that chance can only mirror
    is kept finished, as bytes.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        loss: LossConfig,
        size: int,
        *,
        classes: int = IGNORE,
        boundary_truth: bool = True,
        kept: LRUCache[tuple[Bytes, ...]] | None = None,
    ) -> None:
        """Configure the pipeline.

        Args:
            augmentation: Ranges and probabilities.
            loss: Says how boundary and direction targets are made.
            size: Side of the crop in pixels.
            classes: Number of classes; labels from it on are not objects.
            boundary_truth: False leaves boundary and direction all 255, for a model without the heads.
            kept: Cache of boundary maps of whole pictures; default: one of 256 MiB for the process, and the file that
                processes share.
        """
        self.augmentation = augmentation
        self.loss = loss
        self.size = size
        self.classes = classes
        self.boundary_truth = boundary_truth
        self._kept = _truths if kept is None else kept
        self._shared = _shared_truths(size) if kept is None else None
        self._items = _finished if kept is None else None

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Item:
        """Augment one sample; equal generators give equal items."""
        target = self._target(rng)
        if self._items is not None and self._is_fixed(sample, target):
            key = (sample.key, self.size, self.classes, self.boundary_truth, self.loss)
            finished = self._items.get(key, lambda: self._in_bytes(sample))
            return _item(finished, flipped=rng.random() < self.augmentation.flip)
        stored = self.boundary_truth and self.loss.distance == "stored"
        distance, angle = self._truth(sample.label, whole=True) if stored else (None, None)
        maps = Maps(mmcv.rgb2bgr(sample.image), sample.label, distance, angle)
        maps = resize(maps, target)
        maps = crop(maps, self.size, self.augmentation.category_max, rng)
        if self.boundary_truth and not stored:
            distance, angle = self._truth(maps.label, whole=maps.label is sample.label)
            maps = maps._replace(distance=distance, angle=angle)
        if rng.random() < self.augmentation.flip:
            maps = flip(maps, self.loss)
        if self.augmentation.photometric:
            maps = maps._replace(image=distort(maps.image, rng))
        return self._finish(maps)

    def _is_fixed(self, sample: Sample, target: tuple[int, int]) -> bool:
        """Return True if mirroring is all that can happen to a picture that is known by its key."""
        side = self.size
        same = sample.key is not None and sample.label.shape == (side, side) and not self.augmentation.photometric
        return same and mmcv.image.geometric.rescale_size((side, side), target) == (side, side)

    def _in_bytes(self, sample: Sample) -> tuple[Bytes, ...]:
        """Return the picture's RGB image (3, S, S), label, boundary, direction, and direction of the mirrored picture.

        The first four are of the picture as it is: they are mirrored with it.
        """
        distance, angle = self._truth(sample.label, whole=True) if self.boundary_truth else (None, None)
        maps = Maps(mmcv.rgb2bgr(sample.image), sample.label, distance, angle)
        item, mirrored = self._finish(maps), self._finish(flip(maps, self.loss))
        planes = (plane.astype(np.uint8) for plane in (*item[1:], mirrored.direction))
        return np.ascontiguousarray(sample.image.transpose(2, 0, 1)), *planes

    def _target(self, rng: np.random.Generator) -> tuple[int, int]:
        """Draw the largest long and short side of the resized picture, in pixels."""
        ratio = rng.uniform(self.augmentation.scale_min, self.augmentation.scale_max)
        return int(self.augmentation.base_long * ratio), int(self.augmentation.base_short * ratio)

    def _truth(self, label: Bytes, *, whole: bool) -> tuple[Bytes, Bytes]:
        """Return distance and angle of a label map, cached if it is a whole picture's."""

        def make() -> tuple[Bytes, Bytes]:
            return boundary.truth_maps(label, self.loss, classes=self.classes)

        content = hashlib.blake2b(label.tobytes(), digest_size=16).digest()
        key = (content, label.shape, self.loss.distance, self.classes)
        if not whole:
            return make()
        shared = self._shared if label.shape == (self.size, self.size) else None
        distance, angle = self._kept.get(key, make if shared is None else lambda: shared.get(key, make))
        return distance, angle

    def _finish(self, maps: Maps) -> Item:
        shape = (self.size, self.size)
        image = mmcv.impad(mmcv.imnormalize(maps.image, MEAN, STD, to_rgb=True), shape=shape, pad_val=0)
        label = mmcv.impad(maps.label, shape=shape, pad_val=IGNORE)
        if maps.distance is None or maps.angle is None:
            edge = way = np.full(shape, IGNORE, dtype=np.int64)
        else:
            distance = mmcv.impad(maps.distance, shape=shape, pad_val=IGNORE)
            angle = mmcv.impad(maps.angle, shape=shape, pad_val=IGNORE)
            edge, way = boundary.targets(distance, angle, label, self.loss)
        return Item(np.ascontiguousarray(image.transpose(2, 0, 1)), label.astype(np.int64), edge, way)


_truths: LRUCache[tuple[Bytes, ...]] = LRUCache(_KEPT_BYTES)


_finished: LRUCache[tuple[Bytes, ...]] = LRUCache(_KEPT_ITEM_BYTES)


@cache
def _normalised_levels() -> Floats:
    """Return each grey level of each channel (RGB) as it is normalised: float32 (3, 256)."""
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
    return np.ascontiguousarray(mmcv.imnormalize(levels, MEAN, STD, to_rgb=True)[:, 0].T)


def _item(finished: tuple[Bytes, ...], *, flipped: bool) -> Item:
    """Return the sample of a picture that was kept in bytes."""
    image_3SS, label, edge, way, way_flipped = finished
    way = way_flipped if flipped else way
    if flipped:
        image_3SS, label, edge = (plane[..., ::-1] for plane in (image_3SS, label, edge))
    image = np.empty(image_3SS.shape, np.float32)
    for channel, levels in enumerate(_normalised_levels()):
        np.take(levels, image_3SS[channel], out=image[channel])
    return Item(image, *(plane.astype(np.int64, order="C") for plane in (label, edge, way)))


def _shared_truths(size: int) -> SharedCache:
    """Return the file of boundary maps of pictures of this side, made by these sources with these versions."""
    makers = (source_digest(boundary.__file__), np.__version__, scipy.__version__)
    return shared_cache("boundaries", ((size, size), (size, size)), makers, _SHARED_TRUTHS)


class Batches:
    """Training batches of one run: each epoch in its own shuffled order, each batch a function of (seed, step)."""

    def __init__(self, dataset: Dataset, pipeline: TrainPipeline, batch: int, seed: int) -> None:
        """Configure the batches.

        Args:
            dataset: Samples, at least one.
            pipeline: Augments a sample.
            batch: Samples of a batch, at least 1.
            seed: Seed of orders and augmentations.

        Raises:
            ValueError: For a data set without samples or a batch of none.
        """
        if len(dataset) < 1:
            raise ValueError(f"data set {dataset.name}: no samples to train on")
        if batch < 1:
            raise ValueError(f"batch is {batch}: expected at least 1")
        self.dataset = dataset
        self.pipeline = pipeline
        self.batch = batch
        self.seed = seed
        self._epoch = -1
        self._order: Integers = np.empty(0, dtype=np.int64)

    def batch_at(self, step: int, *, part: int = 0, parts: int = 1) -> dict[str, torch.Tensor]:
        """Return the batch of training step `step` >= 0, or one part of it.

        A batch that reaches over the end of an epoch takes the rest from the next one.

        Args:
            step: Training step, from 0.
            part: Number of the part, from 0.
            parts: Number of equal parts of the batch, in its order.

        Returns:
            `image` float32 (B, 3, S, S); `label`, `boundary` and `direction` int64 (B, S, S).
        """
        assert self.batch % parts == 0, (self.batch, parts)
        size = self.batch // parts
        first = step * self.batch + part * size
        items = [self._item(position) for position in range(first, first + size)]
        return {name: torch.from_numpy(np.stack([getattr(item, name) for item in items])) for name in Item._fields}

    def index_at(self, position: int) -> int:
        """Return the data set's index at a position of the endless sequence of samples."""
        epoch, offset = divmod(position, len(self.dataset))
        if epoch != self._epoch:
            self._order = np.random.default_rng([self.seed, _ORDER, epoch]).permutation(len(self.dataset))
            self._epoch = epoch
        return int(self._order[offset])

    def _item(self, position: int) -> Item:
        sample = self.dataset[self.index_at(position)]
        return self.pipeline(sample, np.random.default_rng([self.seed, _SAMPLE, position]))


def resize(maps: Maps, target: tuple[int, int]) -> Maps:
    """Scale a picture, keeping its aspect, to the largest size within `target` (long side, short side; in pixels).

    The factor is min(long / longer side, short / shorter side), the size int(side * factor + 0.5). The image is
    interpolated bilinearly; label, distance and angle take the nearest value, and distances are not rescaled.
    """
    height, width = maps.label.shape
    scaled = mmcv.image.geometric.rescale_size((width, height), target)
    wide, high = max(scaled[0], 1), max(scaled[1], 1)
    if (high, wide) == (height, width):
        return maps
    image = mmcv.imresize(maps.image, (wide, high), interpolation="bilinear", backend="cv2")
    return _planes(
        maps._replace(image=image),
        lambda plane: mmcv.imresize(plane, (wide, high), interpolation="nearest", backend="cv2"),
    )


def crop(maps: Maps, size: int, category_max: float, rng: np.random.Generator) -> Maps:
    """Cut a random window of at most `size` pixels a side.

    The window is drawn again, up to ten times, while it shows no two classes or one class covers too much of it.

    Args:
        maps: Picture with its maps; returned as it is if no side exceeds `size`.
        size: Side of the window in pixels.
        category_max: Share of the labelled pixels that one class must stay below; 1 or more takes the first window.
        rng: Generator of the window's position.
    """
    height, width = maps.label.shape
    if height <= size and width <= size:
        return maps
    for _ in range(_REDRAWS + 1):
        top = int(rng.integers(max(height - size, 0) + 1))
        left = int(rng.integers(max(width - size, 0) + 1))
        window = slice(top, top + size), slice(left, left + size)
        if category_max >= 1 or _mixed(maps.label[window], category_max):
            break
    return _planes(maps._replace(image=maps.image[window]), lambda plane: plane[window])


def _mixed(label: Bytes, category_max: float) -> bool:
    counts = np.bincount(label.ravel(), minlength=IGNORE + 1)[:IGNORE]
    return bool((counts > 0).sum() > 1 and counts.max() < category_max * counts.sum())


def _planes(maps: Maps, change: Callable[[Bytes], Bytes]) -> Maps:
    """Change label, distance and angle alike; the image stays as it is."""
    distance, angle = (None if plane is None else change(plane) for plane in (maps.distance, maps.angle))
    return Maps(maps.image, change(maps.label), distance, angle)


def flip(maps: Maps, config: LossConfig) -> Maps:
    """Mirror a picture left to right; the angles turn with it unless `config.direction_flip` is "kept"."""
    angle = None if maps.angle is None else boundary.flip_angle(maps.angle, config)
    mirrored = _planes(maps._replace(image=mmcv.imflip(maps.image)), mmcv.imflip)
    return mirrored._replace(angle=angle)


def distort(image: Bytes, rng: np.random.Generator) -> Bytes:
    """Distort the colours of a BGR image, uint8 (H, W, 3); each step has probability one half and is clipped to uint8.

    Brightness -32..32; contrast .5..1.5, by another coin before or after the two colour steps; saturation .5..1.5; hue
    by -18..17 of OpenCV's 180 units.
    """
    if rng.integers(2):
        image = _affine(image, 1.0, rng.uniform(-32, 32))
    contrast_first = bool(rng.integers(2))
    if contrast_first and rng.integers(2):
        image = _affine(image, rng.uniform(0.5, 1.5), 0.0)
    if rng.integers(2):
        hsv = mmcv.bgr2hsv(image)
        hsv[..., 1] = _affine(hsv[..., 1], rng.uniform(0.5, 1.5), 0.0)
        image = mmcv.hsv2bgr(hsv)
    if rng.integers(2):
        hsv = mmcv.bgr2hsv(image)
        hsv[..., 0] = (hsv[..., 0].astype(np.int64) + rng.integers(-18, 18)) % 180
        image = mmcv.hsv2bgr(hsv)
    if not contrast_first and rng.integers(2):
        image = _affine(image, rng.uniform(0.5, 1.5), 0.0)
    return image


def _affine(values: Bytes, gain: float, shift: float) -> Bytes:
    return np.clip(values.astype(np.float32) * np.float32(gain) + np.float32(shift), 0, 255).astype(np.uint8)
