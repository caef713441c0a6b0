"""Metrics for boundaries, interiors and small objects, where Figure 1 and section 4.3 of the UN-EPT paper look.

Sources: Boundary IoU, Cheng et al. 2021; trimap, Kohli et al. 2009; boundary F, Csurka et al. 2013 and DAVIS (Perazzi
et al. 2016). Figure 1 tells errors at boundaries from confused classes: `error_near_boundary` and `interior_miou`.
Section 4.3 speaks of small objects: `size_iou`. All counts are summed over the data set before any ratio is formed. A
mean over a region (interior, trimap, objects of a size) goes over the classes with true pixels in it: the same classes
whatever is predicted. The mean of Boundary IoU and boundary F goes over the classes that have a ratio.

Legend: H, W image height and width, C classes. Label maps in here are int16 with -1 for ignored pixels, the
prediction under an ignored truth included: predictions there are never seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from bench.evaluation.metrics import ConfusionMatrix

RADII = (1, 2, 3, 5, 8, 13, 20, 40)  # pixels, of the trimap curve
OBJECT_SIZES = ("small", "medium", "large")
SIZE_LIMITS = (0.01, 0.1)  # share of the picture from which an object is medium, and large
WIDTH_SHARE = 0.02  # width of the band of Boundary IoU, share of the picture's diagonal
TOLERANCE_SHARE = 0.0075  # tolerance of boundary F, share of the picture's diagonal
_SPANS = ("widths", "tolerances")
_SUMS = (
    "near", "rings", "band_shared", "band_true", "band_predicted", "edges", "matched", "hits", "misses",
    "false_positives",
)  # fmt: skip

Map = npt.NDArray[np.int16]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class BoundaryScores:
    """Fractions in 0..1, None where nothing defines one; the spans are the least and the greatest over the pictures.

    boundary_iou         IoU of the inner bands of truth and prediction, mean over classes
    boundary_f           F of precision and recall of boundary pixels, mean over classes
    interior_miou        mIoU of the pixels farther than the band's width from every true boundary
    error_near_boundary  of the wrong pixels, the share within the band's width of a true boundary
    trimap               radius in pixels: mIoU of the pixels within it of a true boundary
    size_iou             size of the object: IoU, mean over classes
    ..._classes          number of classes that the mean goes over, those with true pixels in the region
    boundary_width_px    width of the band, pixels
    tolerance_px         tolerance of boundary F, pixels
    """

    boundary_iou: float | None
    boundary_f: float | None
    interior_miou: float | None
    error_near_boundary: float | None
    trimap: dict[int, float | None]
    size_iou: dict[str, float | None]
    interior_classes: int
    trimap_classes: dict[int, int]
    size_classes: dict[str, int]
    boundary_width_px: Span | None
    tolerance_px: Span | None

    def metrics(self) -> dict[str, object]:
        """Return the scores as they are stored in a run's row: radii as text, without the spans."""
        return {
            "boundary_iou": self.boundary_iou,
            "boundary_f": self.boundary_f,
            "interior_miou": self.interior_miou,
            "error_near_boundary": self.error_near_boundary,
            "trimap": {str(radius): value for radius, value in self.trimap.items()},
            "size_iou": dict(self.size_iou),
            "interior_classes": self.interior_classes,
            "trimap_classes": {str(radius): number for radius, number in self.trimap_classes.items()},
            "size_classes": dict(self.size_classes),
        }


def boundary_width(height: int, width: int) -> int:
    """Return the width in pixels of the band of Boundary IoU: 2 % of the diagonal, at least 1 (Cheng et al. 2021)."""
    return max(1, round(WIDTH_SHARE * math.hypot(height, width)))


def boundary_tolerance(height: int, width: int) -> int:
    """Return the tolerance in pixels of boundary F: 0.75 % of the diagonal, at least 1 (Csurka et al. 2013)."""
    return max(1, round(TOLERANCE_SHARE * math.hypot(height, width)))


def boundary_pixels(labels_HW: Map) -> Mask:
    """Return the pixels with a 4-neighbour of another class, bool (H, W).

    The image's border and ignored pixels make no boundary.
    """
    boundary = np.zeros(labels_HW.shape, dtype=bool)
    for one_side, other_side in ((np.s_[1:], np.s_[:-1]), (np.s_[:, 1:], np.s_[:, :-1])):
        one, other = labels_HW[one_side], labels_HW[other_side]
        edge = (one != other) & (one >= 0) & (other >= 0)
        boundary[one_side] |= edge
        boundary[other_side] |= edge
    return boundary


def boundary_distance(labels_HW: Map) -> npt.NDArray[np.float64]:
    """Return 1 + the Euclidean distance in pixels to the nearest boundary pixel, float64 (H, W).

    It is 1 on a boundary pixel, and infinite without any boundary.
    """
    boundary = boundary_pixels(labels_HW)
    if not boundary.any():
        return np.full(labels_HW.shape, np.inf)
    return 1.0 + np.asarray(ndimage.distance_transform_edt(~boundary), dtype=np.float64)


def inner_band(labels_HW: Map, width: int) -> Mask:
    """Return the pixels in the inner band of their own class, bool (H, W).

    The band is the class's mask minus the mask eroded `width` times by a 3x3 square. Outside the image is another class
    (Cheng et al. 2021 pad by one pixel). All classes go in one pass: a pixel is eroded away iff the square of side 2
    width + 1 around it holds any other label. Ignored pixels count as another class, so the caller drops what they
    reach.

    Args:
        labels_HW: Label map, int16, -1 for ignored.
        width: Width of the band, in pixels.
    """
    side = 2 * width + 1
    high = ndimage.maximum_filter(labels_HW, side, mode="constant", cval=-1)
    low = ndimage.minimum_filter(labels_HW, side, mode="constant", cval=-1)
    return np.asarray(high != low)


def dilate_marks(marks_HW: npt.NDArray[np.uint64], radius: int) -> npt.NDArray[np.uint64]:
    """Return the bitwise or of the marks within the Euclidean `radius` of each pixel, uint64 (H, W).

    Args:
        marks_HW: One bit serves one class, uint64.
        radius: In pixels.
    """
    height, width = marks_HW.shape
    row, spread_HW, reached = marks_HW.copy(), marks_HW.copy(), 0
    for down in range(min(radius, height - 1), -1, -1):  # rows of the disc, from its narrow end
        half = min(math.isqrt(radius**2 - down**2), width - 1)
        for across in range(reached + 1, half + 1):
            row[:, across:] |= marks_HW[:, : width - across]
            row[:, : width - across] |= marks_HW[:, across:]
        reached = half
        spread_HW[down:] |= row[: height - down]
        spread_HW[: height - down] |= row[down:]
    return spread_HW


def object_sizes(labels_BHW: Map) -> npt.NDArray[np.int64]:
    """Return the index into OBJECT_SIZES of the object that each pixel belongs to, int64 (B, H, W).

    An object is an 8-connected component of one class; its size is its share of all the pixels of its image. All
    classes go in one pass: components of the graph whose nodes are the runs of one label in a row, joined where runs of
    one label in neighbouring rows touch.

    Args:
        labels_BHW: B label maps, int16, -1 for ignored.
    """
    starts = np.ones(labels_BHW.shape, dtype=bool)
    starts[..., 1:] = labels_BHW[..., 1:] != labels_BHW[..., :-1]
    run_BHW = np.cumsum(starts).reshape(starts.shape) - 1
    corner = starts[:, :-1, 1:] & starts[:, 1:, 1:]  # elsewhere runs that touch diagonally also touch vertically
    upper, lower = [], []
    for above, below, candidates in (
        (np.s_[:, :-1], np.s_[:, 1:], starts[:, :-1] | starts[:, 1:]),  # the first column that two runs share
        (np.s_[:, :-1, :-1], np.s_[:, 1:, 1:], corner),
        (np.s_[:, :-1, 1:], np.s_[:, 1:, :-1], corner),
    ):
        touching = candidates & (labels_BHW[above] == labels_BHW[below])
        upper.append(run_BHW[above][touching])
        lower.append(run_BHW[below][touching])
    ends = np.concatenate(upper), np.concatenate(lower)
    runs = int(run_BHW[-1, -1, -1]) + 1
    graph = sparse.coo_matrix((np.ones(len(ends[0])), ends), shape=(runs, runs))
    _, component = csgraph.connected_components(graph, directed=False)
    pixels = np.bincount(component, weights=np.bincount(run_BHW.ravel()))
    sizes = np.searchsorted(SIZE_LIMITS, pixels / labels_BHW[0].size, side="right")
    return np.asarray(sizes[component][run_BHW], dtype=np.int64)


class BoundaryScorer:
    """Sums over a data set, of size O(C^2 radii) whatever its length; `add` takes the images one by one.

    Args:
        classes: C.
        ignore: Label value of pixels that are not scored.
        regions: Also count by distance from the boundary and by size of the object. Without, the scores of these are
            None, and an image takes half the time.
    """

    def __init__(self, classes: int, ignore: int = 255, *, regions: bool = True) -> None:
        self.classes = classes
        self.ignore = ignore
        self.regions = regions
        self.widths: list[int] = []  # the least and the greatest so far
        self.tolerances: list[int] = []
        self.confusion = ConfusionMatrix(classes, ignore)
        self.near: Counts = np.zeros((classes, classes), dtype=np.int64)  # within the band's width of a true boundary
        # [i]: pixels in the ring that ends at RADII[i] and starts after the radius before it
        self.rings: Counts = np.zeros((len(RADII), classes, classes), dtype=np.int64)
        self.band_shared, self.band_true, self.band_predicted = np.zeros((3, classes), dtype=np.int64)
        # boundary pixels [of the truth, of the prediction] and those of them with a partner within the tolerance
        self.edges: Counts = np.zeros((2, classes), dtype=np.int64)
        self.matched: Counts = np.zeros((2, classes), dtype=np.int64)
        self.hits, self.misses, self.false_positives = np.zeros((3, len(OBJECT_SIZES), classes), dtype=np.int64)

    def add(self, truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]) -> None:
        """Count one image.

        Args:
            truth: Labels, any integer type, (H, W).
            prediction: Predicted classes, (H, W), in 0..classes-1 wherever truth is not ignored.

        Raises:
            ValueError: A label lies outside the classes; nothing is counted.
        """
        assert truth.ndim == 2, truth.shape
        assert truth.size, truth.shape
        self.confusion.add(truth, prediction)
        height, width = truth.shape
        band, theta = boundary_width(height, width), boundary_tolerance(height, width)
        self.widths = [min([band, *self.widths]), max([band, *self.widths])]
        self.tolerances = [min([theta, *self.tolerances]), max([theta, *self.tolerances])]

        kept = truth != self.ignore
        true_HW: Map = np.where(kept, truth.astype(np.int16), np.int16(-1))
        predicted_HW: Map = np.where(kept, prediction.astype(np.int16), np.int16(-1))
        self._add_bands(true_HW, predicted_HW, band)
        self._add_edges(true_HW, predicted_HW, theta)
        if self.regions:
            self._add_distances(true_HW, predicted_HW, band)
            self._add_objects(true_HW, predicted_HW)

    def sums(self) -> dict[str, Counts]:
        """Return everything counted so far as integer arrays, for `merge`."""
        return {
            "whole": self.confusion.counts,
            "widths": np.array(self.widths, dtype=np.int64),
            "tolerances": np.array(self.tolerances, dtype=np.int64),
        } | {name: getattr(self, name) for name in _SUMS}

    def merge(self, sums: Mapping[str, Counts]) -> None:
        """Count the images that another scorer of these classes has counted.

        Args:
            sums: What its `sums` returned.

        Raises:
            ValueError: An array is missing or of another shape; nothing is counted.
        """
        own = self.sums()
        for name, array in own.items():
            fits = sums[name].shape in ((0,), (2,)) if name in _SPANS else sums[name].shape == array.shape
            if not fits or sums[name].dtype != np.int64:
                raise ValueError(f"{name}: {sums[name].dtype} {sums[name].shape}, expected int64 {array.shape}")
        for name in _SPANS:
            both = [*getattr(self, name), *sums[name].tolist()]
            setattr(self, name, [min(both), max(both)] if both else [])
        for name in ("whole", *_SUMS):
            own[name] += sums[name]

    def _per_class(self, labels: Map) -> Counts:
        return np.bincount(labels, minlength=self.classes)

    def _add_distances(self, true_HW: Map, predicted_HW: Map, band: int) -> None:
        """Count confusions of the pixels close to a true boundary: per ring of the trimap, and within the band's
        width.
        """
        distance_HW = boundary_distance(true_HW)
        close = (true_HW >= 0) & (distance_HW <= max(*RADII, band))
        true, predicted, distance = true_HW[close], predicted_HW[close], distance_HW[close]
        near = distance <= band
        pair = true.astype(np.int64) * self.classes + predicted
        self.near += np.bincount(pair[near], minlength=self.near.size).reshape(self.near.shape)
        ring = np.searchsorted(RADII, distance, side="left")  # RADII[ring - 1] < distance <= RADII[ring]
        cell = ring * self.near.size + pair
        self.rings += np.bincount(cell, minlength=self.rings.size)[: self.rings.size].reshape(self.rings.shape)

    def _add_bands(self, true_HW: Map, predicted_HW: Map, band: int) -> None:
        """Count for Boundary IoU; pixels that an ignored pixel reaches (Chebyshev distance <= band) are dropped on both
        sides.
        """
        dropped = true_HW < 0
        if dropped.any():
            dropped = ndimage.maximum_filter(dropped, 2 * band + 1, mode="constant", cval=False)
        in_true = inner_band(true_HW, band) & ~dropped
        in_predicted = inner_band(predicted_HW, band) & ~dropped
        self.band_true += self._per_class(true_HW[in_true])
        self.band_predicted += self._per_class(predicted_HW[in_predicted])
        self.band_shared += self._per_class(true_HW[in_true & in_predicted & (true_HW == predicted_HW)])

    def _add_edges(self, true_HW: Map, predicted_HW: Map, theta: int) -> None:
        """Count for boundary F which boundary pixels have a partner of their class on the other side within theta.

        Within theta of an ignored pixel a partner may be hidden: such pixels are not judged, but serve as partners.
        """
        judged = true_HW >= 0
        if not judged.all():
            judged = dilate_marks((~judged).astype(np.uint64), theta) == 0
        maps = (true_HW, predicted_HW)
        edges = [boundary_pixels(labels) for labels in maps]
        judged_edges = [edge & judged for edge in edges]
        for side in (0, 1):
            self.edges[side] += self._per_class(maps[side][judged_edges[side]])
        present = np.unique(np.concatenate([true_HW[edges[0]], predicted_HW[edges[1]]]))
        for start in range(0, len(present), 64):  # a bit for each class, 64 at a time
            some = present[start : start + 64]
            bits = np.zeros(self.classes, dtype=np.uint64)
            bits[some] = np.uint64(1) << np.arange(len(some), dtype=np.uint64)
            marks = [np.where(edge, bits[labels], np.uint64(0)) for labels, edge in zip(maps, edges, strict=True)]
            for side in (0, 1):
                partnered = judged_edges[side] & ((marks[side] & dilate_marks(marks[1 - side], theta)) != 0)
                self.matched[side] += self._per_class(maps[side][partnered])

    def _add_objects(self, true_HW: Map, predicted_HW: Map) -> None:
        """Count a true pixel for the size of its true object, and a false positive for that of its predicted object."""
        kept, right = true_HW >= 0, true_HW == predicted_HW
        true_sizes_HW, predicted_sizes_HW = object_sizes(np.stack([true_HW, predicted_HW]))
        for into, labels_HW, sizes_HW, which in (
            (self.hits, true_HW, true_sizes_HW, kept & right),
            (self.misses, true_HW, true_sizes_HW, kept & ~right),
            (self.false_positives, predicted_HW, predicted_sizes_HW, kept & ~right),
        ):
            cell = sizes_HW[which] * self.classes + labels_HW[which]
            into += np.bincount(cell, minlength=into.size).reshape(into.shape)

    def scores(self) -> BoundaryScores:
        """Return the scores of all images so far."""
        wrong = _wrong(self.confusion.counts) if self.regions else 0
        away = self.confusion.counts - self.near if self.regions else np.zeros_like(self.near)
        interior = _region_miou(*_region(away))
        trimap = {r: _region_miou(*_region(counts)) for r, counts in zip(RADII, self.rings.cumsum(0), strict=True)}
        sizes = {
            size: _region_miou(self.hits[i], self.hits[i] + self.misses[i], self.false_positives[i])
            for i, size in enumerate(OBJECT_SIZES)
        }
        return BoundaryScores(
            boundary_iou=_mean_ratio(self.band_shared, self.band_true + self.band_predicted - self.band_shared),
            boundary_f=self._boundary_f(),
            interior_miou=interior.miou,
            error_near_boundary=_wrong(self.near) / wrong if wrong else None,
            trimap={radius: region.miou for radius, region in trimap.items()},
            size_iou={size: region.miou for size, region in sizes.items()},
            interior_classes=interior.classes,
            trimap_classes={radius: region.classes for radius, region in trimap.items()},
            size_classes={size: region.classes for size, region in sizes.items()},
            boundary_width_px=(self.widths[0], self.widths[1]) if self.widths else None,
            tolerance_px=(self.tolerances[0], self.tolerances[1]) if self.tolerances else None,
        )

    def _boundary_f(self) -> float | None:
        """Return the mean over the classes with a boundary pixel on either side; 0 for a class with them on one side
        only.
        """
        recall, precision = self.matched / np.maximum(self.edges, 1)
        f = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
        seen = self.edges.any(0)
        return float(np.mean(f[seen])) if seen.any() else None


class _Region(NamedTuple):
    """mIoU of a region, and the number of classes that it is the mean of."""

    miou: float | None
    classes: int


def _region(counts: Counts) -> tuple[Counts, Counts, Counts]:
    """Return hits, true pixels and false positives of each class, from a confusion matrix (truth, prediction)."""
    hits = np.diag(counts)
    return hits, counts.sum(1), counts.sum(0) - hits


def _region_miou(hits: Counts, true: Counts, false_positives: Counts) -> _Region:
    """Return the mean IoU of the classes with true pixels.

    A class without any has no IoU to be averaged: it would be 0 by one false positive, and absent without it.
    """
    return _Region(_mean_ratio(hits[true > 0], (true + false_positives)[true > 0]), int((true > 0).sum()))


def _wrong(counts: Counts) -> int:
    return int(counts.sum() - np.trace(counts))


def _mean_ratio(part: Counts, whole: Counts) -> float | None:
    """Return the mean of part / whole over the classes where whole is not 0; None without any."""
    seen = whole > 0
    return float(np.mean(part[seen] / whole[seen])) if seen.any() else None
