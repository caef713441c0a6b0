"""Class probabilities of a picture: whole or by sliding windows, over several sizes and both mirror images.

A pass is one size and one mirror image of the picture: it is resized, normalised and cut into overlapping windows, each
evaluated once; a pixel's logits are averaged over the windows that saw it, resized to the picture's size, turned into
probabilities and mirrored back. The probabilities of all passes are averaged (the released evaluation protocol).

Axes: B windows, K classes, H x W pixels of the picture, h x w of its resized copy, n rows of a band, G maps that a
model gives (plain, refined).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unept.utils.finite import check_finite, non_finite_in
from unept.utils.imagenet import MEAN, STD

BAND_PIXELS = 2**15  # a pass is finished in bands of whole rows, of at most about so many pixels

MAX_PIXELS = 2**31  # of a resized picture
MAPS = ("logits", "refined", "boundary", "direction")  # of an output, each logits

Mode = Literal["whole", "slide"]


class Output(Protocol):
    """Result of a model in evaluation (`unept.model.Output`)."""

    @property
    def logits(self) -> Tensor:
        """Logits, (B, K, height, width), as large as the input."""

    @property
    def refined(self) -> Tensor | None:
        """Refined logits, as `logits`; None if the model does not refine at test."""


Model = Callable[[Tensor], Output]


class Prediction(NamedTuple):
    """Averaged class probabilities, float32 (K, H, W); `refined` is None if the model does not refine."""

    probabilities: Tensor
    refined: Tensor | None


class Labels(NamedTuple):
    """Most probable class of every pixel, int64 (H, W); `refined` is None if the model does not refine."""

    labels: Tensor
    refined: Tensor | None


@torch.no_grad()
def predict(
    model: Model,
    image_HW3: NDArray[np.uint8],
    *,
    mode: Mode = "slide",
    window: int = 480,
    stride: int = 160,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    base: tuple[int, int] | None = None,
    batch: int = 1,
    device: torch.device | str | None = None,
) -> Prediction:
    """Predict averaged class probabilities of an RGB picture.

    Memory beyond the picture and the result is that of `batch` windows and of the logits of one row of windows, however
    high the picture is; `predict_labels` does without the K maps of the result too.

    Args:
        model: Callable in evaluation mode from normalised images (B, 3, h, w), in the type of its parameters or
            float32, to maps of their size.
        image_HW3: RGB picture, uint8.
        mode: "whole" passes the picture in one piece, "slide" in overlapping windows.
        window: Side of a window in pixels; a shorter side of the picture is padded with zeros after normalisation.
        stride: Pixels between windows; the last window is moved back inside the picture.
        scales: Ratios. Ratio r resizes the picture, its aspect kept, to the largest size within r times `base`, or to r
            times its own size without a base; sides are rounded to whole pixels, the image bilinearly and to whole grey
            levels.
        flip: Evaluate every size also mirrored left to right.
        base: (long side, short side) in pixels at ratio 1.
        batch: Windows that are evaluated together; keep 1 for a model that attends over the batch.
        device: Device of the computation; default: that of the model's parameters, else the CPU.

    Raises:
        ValueError: For a picture or a protocol that is not possible.
        NonFiniteError: A map of the model, or the sum of several, holds a NaN or an infinity; the message says where.
    """
    protocol = _Protocol(mode, window, stride, tuple(scales), flip, base, batch)
    passes = _passes(model, image_HW3, protocol, device)
    total_GKHW: Tensor | None = None
    for bands in passes:
        top = 0
        for band_GKnW in bands:
            if total_GKHW is None:
                total_GKHW = band_GKnW.new_zeros(*band_GKnW.shape[:2], *image_HW3.shape[:2])
            total_GKHW[:, :, top : top + band_GKnW.shape[2]] += band_GKnW
            top += band_GKnW.shape[2]
    assert total_GKHW is not None, "a picture has rows"
    total_GKHW /= len(passes)
    return Prediction(total_GKHW[0], total_GKHW[1] if len(total_GKHW) == 2 else None)


@torch.no_grad()
def predict_labels(
    model: Model,
    image_HW3: NDArray[np.uint8],
    *,
    mode: Mode = "slide",
    window: int = 480,
    stride: int = 160,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    base: tuple[int, int] | None = None,
    batch: int = 1,
    device: torch.device | str | None = None,
) -> Labels:
    """Predict the most probable class of every pixel, without storing K probability maps.

    See `predict` for the arguments.

    All passes advance together from the top, so the logits of one row of windows are held for each pass at once: less
    memory than `predict` if the picture is much higher than a window, more if it is not and there are many passes.
    """
    protocol = _Protocol(mode, window, stride, tuple(scales), flip, base, batch)
    passes = _passes(model, image_HW3, protocol, device)
    rows = []
    for bands_GKnW in zip(*passes, strict=True):
        total_GKnW = bands_GKnW[0]
        for band_GKnW in bands_GKnW[1:]:
            total_GKnW += band_GKnW
        rows.append(total_GKnW.argmax(1))
    labels_GHW = torch.cat(rows, 1)
    return Labels(labels_GHW[0], labels_GHW[1] if len(labels_GHW) == 2 else None)


@torch.no_grad()
def predict_labels_together(model: nn.Module, images_BHW3: NDArray[np.uint8]) -> list[Labels]:
    """Predict the most probable class of every pixel of pictures of one size, each whole and as it is, in one call.

    Equal to `predict_labels` in mode "whole" of each, to rounding, for a model that does not mix the images of a batch.

    Args:
        model: Network in evaluation mode.
        images_BHW3: RGB pictures, uint8.

    Raises:
        NonFiniteError: A map of the model holds a NaN or an infinity.
    """
    parameter = next(model.parameters())
    image_B3HW = torch.from_numpy(images_BHW3).to(parameter.device).permute(0, 3, 1, 2).contiguous()
    maps = _evaluate(model, _normalised(image_B3HW.float()).to(parameter.dtype))
    labels = [maps_BKHW.float().softmax(1).max(1).indices for maps_BKHW in maps]  # argmax is slow over channels
    refined = labels[1] if len(labels) == 2 else [None] * len(labels[0])
    return [Labels(*pair) for pair in zip(labels[0], refined, strict=True)]


@dataclass(frozen=True)
class _Protocol:
    """Checked arguments of `predict`."""

    mode: Mode
    window: int
    stride: int
    scales: tuple[float, ...]
    flip: bool
    base: tuple[int, int] | None
    batch: int

    def __post_init__(self) -> None:
        if self.mode not in ("whole", "slide"):
            raise ValueError(f"mode {self.mode!r}: expected 'whole' or 'slide'")
        if not 1 <= self.stride <= self.window:
            raise ValueError(f"stride {self.stride}: expected 1 to the window's side, {self.window}")
        if not self.scales or not all(0 < ratio < float("inf") for ratio in self.scales):
            raise ValueError(f"scales {self.scales}: expected one or more positive ratios")
        if self.base is not None and min(self.base) < 1:
            raise ValueError(f"base {self.base}: expected (long side, short side), at least 1 pixel each")
        if self.batch < 1:
            raise ValueError(f"batch {self.batch}: expected at least 1")


def _passes(
    model: Model, image_HW3: NDArray[np.uint8], protocol: _Protocol, device: torch.device | str | None
) -> list[Iterator[Tensor]]:
    """Return an iterator for each pass that yields the picture's bands from the top.

    Probabilities (G, K, n, W) of n rows.
    """
    if image_HW3.dtype != np.uint8 or image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or not image_HW3.size:
        raise ValueError(f"picture: {image_HW3.dtype} array of shape {image_HW3.shape}, expected uint8 (H, W, 3)")
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    dtype = torch.float32 if parameter is None else parameter.dtype
    if device is None:
        device = "cpu" if parameter is None else parameter.device
    image_3HW = torch.from_numpy(np.array(image_HW3, order="C")).to(device).permute(2, 0, 1)
    for ratio in protocol.scales:
        height, width = scaled(image_HW3.shape[0], image_HW3.shape[1], ratio, protocol.base)
        if height * width > MAX_PIXELS:
            raise ValueError(f"scale {ratio:g} makes the picture {width}x{height}: at most {MAX_PIXELS} pixels")
    flips = (False, True) if protocol.flip else (False,)
    return [_bands(model, image_3HW, protocol, ratio, flipped, dtype) for ratio in protocol.scales for flipped in flips]


def _bands(
    model: Model, image_3HW: Tensor, protocol: _Protocol, ratio: float, flipped: bool, dtype: torch.dtype
) -> Iterator[Tensor]:
    """Evaluate one pass window by window from the top, and yield each band when no later window touches it."""
    height, width = image_3HW.shape[1:]
    scaled_3hw = prepare(image_3HW, scaled(height, width, ratio, protocol.base)).to(dtype)
    if flipped:
        scaled_3hw = scaled_3hw.flip(2)
    h, w = scaled_3hw.shape[1:]
    tall, wide = (h, w) if protocol.mode == "whole" else (protocol.window, protocol.window)
    padded_3hw = F.pad(scaled_3hw, (0, max(wide - w, 0), 0, max(tall - h, 0)))
    ys = window_starts(h, tall, protocol.stride)
    xs = window_starts(w, wide, protocol.stride)
    corners = [(y, x) for y in ys for x in xs]
    views_hw = torch.outer(_views(ys, tall, h), _views(xs, wide, w)).to(image_3HW.device)
    lower_H, upper_H, weight_H = _resized_rows(h, height)

    canvas = _Canvas(padded_3hw.shape[2])
    rows, done = max(BAND_PIXELS // width, 1), 0
    for first in range(0, len(corners), protocol.batch):
        chunk = corners[first : first + protocol.batch]
        windows_B3hw = torch.stack([padded_3hw[:, y : y + tall, x : x + wide] for y, x in chunk])
        y, x = chunk[0]
        with non_finite_in(f"scale {ratio:g}{', mirrored' * flipped}, window at row {y}, column {x}"):
            maps = _evaluate(model, windows_B3hw)
        for index, corner in enumerate(chunk):
            canvas.add([maps_BKhw[index] for maps_BKhw in maps], *corner)
        final = corners[first + protocol.batch][0] if first + protocol.batch < len(corners) else h
        while done < height and upper_H[min(done + rows, height) - 1] < final:
            band = slice(done, min(done + rows, height))
            low, high = int(lower_H[band][0]), int(upper_H[band][-1])
            mean_GKnw = canvas.rows(low, high + 1)[..., :w] / views_hw[low : high + 1]
            logits_GKnw = torch.lerp(
                mean_GKnw[:, :, lower_H[band] - low],
                mean_GKnw[:, :, upper_H[band] - low],
                weight_H[band, None].to(mean_GKnw),
            )
            if w != width:
                size = (logits_GKnw.shape[2], width)
                logits_GKnw = F.interpolate(logits_GKnw, size=size, mode="bilinear", align_corners=False)
            probabilities_GKnW = logits_GKnw.softmax(1)
            with non_finite_in(f"scale {ratio:g}{', mirrored' * flipped}, averaged over windows"):
                check_finite(probabilities_GKnW, "class probabilities")  # finite logits may have an infinite sum
            yield probabilities_GKnW.flip(3) if flipped else probabilities_GKnW
            done = band.stop
        if done < height:
            # A pass larger than the picture skips rows on the way back; the next windows may lie in them.
            canvas.drop(min(int(lower_H[done]), final))


def count_windows(
    height: int,
    width: int,
    *,
    mode: Mode = "slide",
    window: int = 480,
    stride: int = 160,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    base: tuple[int, int] | None = None,
) -> int:
    """Return the number of windows that `predict` evaluates for a picture of this size.

    See `predict` for the arguments.
    """
    protocol = _Protocol(mode, window, stride, tuple(scales), flip, base, 1)
    count = 0
    for ratio in protocol.scales:
        sides = scaled(height, width, ratio, protocol.base)
        spans = sides if mode == "whole" else (window, window)
        ys, xs = (window_starts(side, span, stride) for side, span in zip(sides, spans, strict=True))
        count += len(ys) * len(xs)
    return count * (2 if flip else 1)


class _Canvas:
    """Sums of logits of the rows of a pass that are still needed; rows are numbered from the top of the pass."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._top = 0
        self._sums_GKnw: Tensor | None = None

    def add(self, maps: list[Tensor], y: int, x: int) -> None:
        """Add a window's G maps of logits (K, h, w) at its corner (y, x); windows come in rows from the top."""
        classes, tall, wide = maps[0].shape
        if self._sums_GKnw is None:
            shape = (len(maps), classes, 0, self._width)
            self._sums_GKnw = torch.zeros(shape, dtype=torch.float32, device=maps[0].device)
        y -= self._top
        missing = y + tall - self._sums_GKnw.shape[2]
        if missing > 0:
            self._sums_GKnw = F.pad(self._sums_GKnw, (0, 0, 0, missing))
        for sums_Knw, map_Khw in zip(self._sums_GKnw, maps, strict=True):
            sums_Knw[:, y : y + tall, x : x + wide] += map_Khw

    def rows(self, start: int, stop: int) -> Tensor:
        """Return the sums of some rows, (G, K, stop - start, width)."""
        assert self._sums_GKnw is not None, "nothing was added"
        return self._sums_GKnw[:, :, start - self._top : stop - self._top]

    def drop(self, top: int) -> None:
        """Drop the rows above `top`; their memory is freed when the canvas next grows."""
        if self._sums_GKnw is not None:
            self._sums_GKnw = self._sums_GKnw[:, :, top - self._top :]
            self._top = top


def prepare(image_3HW: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a uint8 RGB image to (h, w), bilinearly and to whole grey levels, and normalise it: float32 (3, h, w).

    Every value is within one grey level of OpenCV's fixed-point arithmetic, which mmcv resizes with.
    """
    image_3hw = image_3HW.float()
    if size != tuple(image_3HW.shape[1:]):
        image_3hw = F.interpolate(image_3hw.unsqueeze(0), size=size, mode="bilinear", align_corners=False)[0].round()
    return _normalised(image_3hw)


def _normalised(image: Tensor) -> Tensor:
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (image - mean) / std


def scaled(height: int, width: int, ratio: float, base: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the height and width of a resized picture.

    Args:
        height: Height of the picture in pixels.
        width: Width of the picture in pixels.
        ratio: Ratio of the sizes.
        base: (long side, short side) at ratio 1 that the picture must fit into; None = its own size.
    """
    factor = ratio
    if base is not None:
        short, long = sorted(int(side * ratio) for side in base)
        factor = min(long / max(height, width), short / min(height, width))
    return max(int(height * factor + 0.5), 1), max(int(width * factor + 0.5), 1)


def window_starts(side: int, window: int, stride: int) -> list[int]:
    """Return the first pixels of the windows along one axis.

    Args:
        side: Length of the axis in pixels.
        window: Side of a window in pixels.
        stride: Pixels between windows; the last window is moved back inside.
    """
    count = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(index * stride, side - window), 0) for index in range(count)]


def _views(starts: list[int], window: int, side: int) -> Tensor:
    """Count the windows that see each pixel of an axis."""
    views = torch.zeros(side, dtype=torch.float32)
    for start in starts:
        views[start : start + window] += 1
    return views


def _resized_rows(source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two source rows that each target row lies between, and the weight of the second.

    Bilinear interpolation from `source` to `target` rows, corners not aligned.
    """
    position = ((torch.arange(target, dtype=torch.float64) + 0.5) * source / target - 0.5).clamp(0, source - 1)
    lower = position.long()
    return lower, (lower + 1).clamp(max=source - 1), position - lower


def _evaluate(model: Model, windows_B3hw: Tensor) -> list[Tensor]:
    """Return the model's maps of a batch of windows: plain and, if it refines, refined logits (B, K, h, w).

    Every map must be finite. Refinement reads boundary and direction logits, and would pass over a NaN among them.
    """
    output = model(windows_B3hw)
    size = windows_B3hw.shape[2:]
    for name in MAPS:
        values = getattr(output, name, None)
        if values is not None:
            check_finite(values, "class logits" if name == "logits" else f"{name} logits")
    assert output.logits.shape[2:] == size, "logits must be as large as the input: is the model in eval()?"
    return [output.logits] if output.refined is None else [output.logits, output.refined]
