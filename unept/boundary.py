"""Boundary and direction truth made from a label map by distance transforms (paper, section 3.2, after SegFix).

A pixel's distance is that to the nearest pixel of anything else than its own class; the image's border is not a
boundary. Its angle is the gradient of that distance inside its class, so it points inward, away from the boundary.
Both are kept as small integer maps, so that they can be resized, cropped and flipped together with the label:

    distance  uint8, pixels, truncated and clipped at 250; 0 where no truth was made (ignored or skipped pixels)
    angle     uint8 code, degrees = 2 * code - 180 with the image's y axis down; 255 = no direction

`truth_maps` makes the two maps, `flip_angle` mirrors the second, `targets` turns them into what the losses read. Where
an image is padded, make the maps first and pad distance and angle with 255: padding is not an object.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unept.config import LossConfig

BAND = 5  # pixels; a distance up to this is boundary
FAR = 250  # pixels; distances are clipped here
NONE = 255  # no target (boundary, direction) or no direction (angle code)
RELEASED_MIN_PIXELS = 100
OFFSETS = ((0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1))  # (dy, dx) of the eight directions

UInt8 = NDArray[np.uint8]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]


def truth_maps(label_HW: UInt8, config: LossConfig, *, classes: int, ignore: int = 255) -> tuple[UInt8, UInt8]:
    """Make the distance and angle maps of a label map as `config.distance` asks.

    "stored" stands for the published offset files and follows their generator (see `distance_angle`); "crop" keeps
    every class however small. Call it on the image's own size for "stored" and on the crop, before padding, for "crop".

    Args:
        label_HW: Classes, uint8.
        config: Supervision.
        classes: Number of classes; labels from it on are no objects.
        ignore: Label of pixels without a class.

    Returns:
        Distance in pixels and angle code, uint8 (H, W) each.
    """
    released = config.distance == "stored"
    minimum = RELEASED_MIN_PIXELS if released else 0
    return distance_angle(label_HW, classes=classes, ignore=ignore, min_pixels=minimum, released=released)


def distance_angle(
    label_HW: UInt8, *, classes: int = 255, ignore: int = 255, min_pixels: int = 0, released: bool = False
) -> tuple[UInt8, UInt8]:
    """Compute distance (pixels) and angle code of every pixel of a label map.

    An image that one class fills has no boundary: its distance is 250 everywhere.

    With `released`, angles equal those of the published generator to the bit: float32 sums, zeros beyond the image's
    border (which turns directions near it inward), codes truncated, and code 90 where there is no direction. Without it
    they are exact under flips: float64 sums paired by symmetry, the border's pixels repeated, codes 0..179 rounded, 255
    where there is no direction.

    Args:
        label_HW: Classes, uint8.
        classes: Labels below this number, other than `ignore`, are objects; all other pixels get distance 0.
        ignore: Label of pixels without a class.
        min_pixels: Classes with fewer pixels get distance 0.
        released: Follow the published generator.

    Returns:
        Distance and angle code, uint8 (H, W) each.

    Raises:
        ValueError: For a label map that is not a two-dimensional uint8 array.
    """
    if label_HW.ndim != 2 or label_HW.dtype != np.uint8:
        raise ValueError(f"label map: {label_HW.dtype} array of shape {label_HW.shape}, expected uint8 (H, W)")
    if not label_HW.size:
        return label_HW.copy(), label_HW.copy()
    field_HW = np.zeros(label_HW.shape)
    for index, box in enumerate(ndimage.find_objects(label_HW.astype(np.int32) + 1)[:classes]):
        if box is None or index == ignore:
            continue
        # One pixel around the class is enough: the nearest other pixel is never farther out.
        window = tuple(slice(max(part.start - 1, 0), part.stop + 1) for part in box)
        mask_HW = label_HW[window] == index
        if mask_HW.all():  # the whole image
            field_HW[window] = FAR
        elif mask_HW.sum() >= min_pixels:
            field_HW[window] += ndimage.distance_transform_edt(mask_HW)
    dy_HW, dx_HW = (_released_gradient if released else _gradient)(field_HW, label_HW)
    degrees_HW = np.degrees(np.arctan2(dy_HW, dx_HW, dtype=np.float64))
    if released:
        angle_HW = ((degrees_HW.astype(np.float32) + np.float32(180)) / 2).astype(np.uint8)
    else:
        angle_HW = np.rint((degrees_HW + 180) / 2).astype(np.uint8) % 180
        angle_HW[(dy_HW == 0) & (dx_HW == 0)] = NONE
    return np.minimum(field_HW, FAR).astype(np.uint8), angle_HW


def targets(
    distance_HW: UInt8, angle_HW: UInt8, label_HW: NDArray[np.integer], config: LossConfig, *, ignore: int = 255
) -> tuple[Int64, Int64]:
    """Turn the maps into the targets that the losses read; 255 marks pixels that no loss reads.

    Args:
        distance_HW: Distance map, uint8.
        angle_HW: Angle codes, uint8.
        label_HW: Labels of the same size.
        config: `boundary_ignore` = "masked" leaves out ignored pixels, and for the direction also pixels without one.
            "positive" reads the maps as released: ignored pixels are boundary of direction 4, padding (distance and
            angle 255) is no boundary, and pixels without a direction get 0.
        ignore: Label of pixels without a class.

    Returns:
        Boundary (0, 1 or 255) and direction (0..7 or 255), int64 (H, W) each.
    """
    assert distance_HW.shape == angle_HW.shape == label_HW.shape, "maps and label must share one size"
    boundary_HW = (distance_HW <= BAND).astype(np.int64)
    if config.boundary_ignore == "positive":
        return boundary_HW, _BINS_RELEASED[angle_HW]
    direction_HW = _BINS[angle_HW]
    ignored_HW = label_HW == ignore
    boundary_HW[ignored_HW] = NONE
    direction_HW[ignored_HW | (distance_HW == 0)] = NONE
    return boundary_HW, direction_HW


def flip_angle(angle_HW: UInt8, config: LossConfig) -> UInt8:
    """Return the angle map of the horizontally flipped image.

    Mirroring equals making the map from the flipped label, except for maps made with `released`: their codes are
    truncated, which a mirror turns into rounding up, so codes may differ by one, and so may directions at the edge of a
    bin.

    Args:
        angle_HW: Angle codes, uint8.
        config: `direction_flip` = "mirrored" turns each angle a into 180 - a, "kept" only moves the pixels (as
            released).
    """
    flipped_HW = np.ascontiguousarray(angle_HW[:, ::-1])
    return _MIRROR[flipped_HW] if config.direction_flip == "mirrored" else flipped_HW


def _gradient(field_HW: Float64, label_HW: UInt8) -> tuple[Float64, Float64]:
    """Return (dy, dx).

    Cross-correlation with y and x / (x^2 + y^2) over the 5 x 5 pixels that share the centre's label.

    The border's pixels are repeated. Opposite taps are subtracted before mirrored ones are added, so a flip or a
    transposition of the label changes nothing but signs, to the bit.
    """
    fields, labels = np.pad(field_HW, 2, mode="edge"), np.pad(label_HW, 2, mode="edge")
    taps = {(y, x): _tap(fields, labels, y, x) for y in range(-2, 3) for x in range(-2, 3)}
    dy_HW, dx_HW = np.zeros_like(field_HW), np.zeros_like(field_HW)
    for ahead in (1, 2):
        for aside in (0, 1, 2):
            weight = ahead / (ahead**2 + aside**2)
            rise_HW = taps[ahead, aside] - taps[-ahead, aside]
            run_HW = taps[aside, ahead] - taps[aside, -ahead]
            if aside:
                rise_HW += taps[ahead, -aside] - taps[-ahead, -aside]
                run_HW += taps[-aside, ahead] - taps[-aside, -ahead]
            dy_HW += weight * rise_HW
            dx_HW += weight * run_HW
    return dy_HW, dx_HW


def _released_gradient(field_HW: Float64, label_HW: UInt8) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (dy, dx) in the arithmetic of the published generator, with zeros beyond the image's border.

    That is a float32 convolution by fused multiply-adds in row order. Where opposite taps cancel, the sign of the
    rounding error decides between codes 0 and 180, so the order matters. A float64 holds each product exactly.
    """
    fields, labels = np.pad(field_HW.astype(np.float32), 2).astype(np.float64), np.pad(label_HW, 2)
    dy_HW, dx_HW = np.zeros(field_HW.shape, np.float32), np.zeros(field_HW.shape, np.float32)
    for y in range(-2, 3):
        for x in range(-2, 3):
            tap_HW = _tap(fields, labels, y, x)
            for sum_HW, along in ((dy_HW, y), (dx_HW, x)):
                if along:
                    sum_HW[...] = float(np.float32(along / (x * x + y * y))) * tap_HW + sum_HW
    return dy_HW, dx_HW


def _tap(fields: Float64, labels: UInt8, y: int, x: int) -> Float64:
    """Return the field at offset (y, x) from each pixel, 0 under another label; both maps are padded by two pixels."""
    height, width = (side - 4 for side in fields.shape)
    shifted = slice(2 + y, 2 + y + height), slice(2 + x, 2 + x + width)
    return fields[shifted] * (labels[shifted] == labels[2 : 2 + height, 2 : 2 + width])


def _bins(beyond: int) -> Int64:
    """Return the direction of each angle code: bin i is centred at 45 i - 180 degrees; codes above 180 get `beyond`."""
    code = np.arange(256)
    return np.where(code <= 180, np.ceil((2.0 * code - 180 + 157.5) / 45).astype(np.int64) % 8, beyond)


_BINS, _BINS_RELEASED = _bins(NONE), _bins(0)
_MIRROR: UInt8 = np.array([(270 - code) % 180 if code <= 180 else code for code in range(256)], np.uint8)
