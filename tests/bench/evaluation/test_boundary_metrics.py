"""Boundary metrics against slow definitions, pixel by pixel and class by class, and against results worked by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from bench.evaluation import boundary_metrics
from bench.evaluation.boundary_metrics import RADII, BoundaryScorer, BoundaryScores

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]
Picture = tuple[Labels, Labels]
IGNORE = 255


# ---- pictures


def regions(rng: np.random.Generator, shape: tuple[int, int], classes: int, grain: float) -> Labels:
    return np.argmax([ndimage.gaussian_filter(rng.normal(size=shape), grain) for _ in range(classes)], axis=0)


def picture(seed: int, shape: tuple[int, int], classes: int = 5, *, ignored: bool = True) -> Picture:
    """Regions with thin poles, and a prediction of them, displaced and wrong in patches; the last class is absent."""
    rng = np.random.default_rng(seed)
    truth = regions(rng, shape, classes - 1, grain=2.0)
    for column in rng.integers(0, shape[1], size=2):
        truth[rng.integers(0, shape[0]) :, column] = rng.integers(0, classes - 1)
    prediction = np.roll(truth, rng.integers(-1, 2, size=2), axis=(0, 1))
    patches = ndimage.gaussian_filter(rng.normal(size=shape), 1.5) > 0.25
    prediction = np.where(patches, regions(rng, shape, classes - 1, grain=1.0), prediction)
    if ignored:
        truth[(patches & (rng.random(shape) < 0.02)) | (regions(rng, shape, 9, grain=1.5) == 0)] = IGNORE
    return truth.astype(np.uint8), prediction.astype(np.uint8)


SHAPES = [(1, 1), (1, 7), (13, 1), (11, 17), (23, 31), (53, 71), (7, 211), (401, 5)]


def score(pictures: list[Picture], classes: int = 5) -> BoundaryScores:
    scorer = BoundaryScorer(classes)
    for truth, prediction in pictures:
        scorer.add(truth, prediction)
    return scorer.scores()


# ---- slow definitions


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def slow_band(mask: Mask, width: int, *, border_outside: bool = True) -> Mask:
    padded = np.pad(mask, width + 1, mode="constant" if border_outside else "edge")
    for _ in range(width):
        padded = ndimage.binary_erosion(padded, np.ones((3, 3), dtype=bool), border_value=not border_outside)
    inside = slice(width + 1, -width - 1)
    return mask & ~padded[inside, inside]


def slow_edges(labels: Labels, *, ignore_makes_edges: bool = False) -> Mask:
    found = np.zeros(labels.shape, dtype=bool)
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= v < height and 0 <= u < width and labels[y, x] != labels[v, u] and labels[y, x] != IGNORE:
                    found[y, x] |= ignore_makes_edges or labels[v, u] != IGNORE
    return found


def slow_distance(to: Mask, norm: Callable[[Labels, Labels], npt.NDArray[np.floating]]) -> npt.NDArray[np.float64]:
    """From every pixel to the nearest marked one, by trying all of them."""
    targets = np.argwhere(to)
    result = np.full(to.shape, np.inf)
    if len(targets):
        for y, x in np.ndindex(to.shape):
            result[y, x] = norm(targets[:, 0] - y, targets[:, 1] - x).min()
    return result


def euclidean(dy: Labels, dx: Labels) -> npt.NDArray[np.floating]:
    return np.sqrt(dy**2 + dx**2)


def chessboard(dy: Labels, dx: Labels) -> npt.NDArray[np.floating]:
    return np.maximum(abs(dy), abs(dx)).astype(float)


def slow_sizes(labels: Labels, limits: tuple[float, float] = (0.01, 0.1)) -> Labels:
    """Flood fill from each pixel in turn."""
    height, width = labels.shape
    sizes = np.full(labels.shape, -1)
    for start in np.ndindex(labels.shape):
        if sizes[start] >= 0:
            continue
        filled, todo = {start}, [start]
        while todo:
            y, x = todo.pop()
            for v in range(max(y - 1, 0), min(y + 2, height)):
                for u in range(max(x - 1, 0), min(x + 2, width)):
                    if labels[v, u] == labels[start] and (v, u) not in filled:
                        filled.add((v, u))
                        todo.append((v, u))
        for pixel in filled:
            sizes[pixel] = sum(len(filled) >= limit * labels.size for limit in limits)
    return sizes


def slow_boundary_iou(pictures: list[Picture], classes: int = 5, *, border_outside: bool = True) -> float | None:
    shared, union = np.zeros(classes), np.zeros(classes)
    for truth, prediction in pictures:
        width = max(1, round(0.02 * math.hypot(*truth.shape)))
        usable = slow_distance(truth == IGNORE, chessboard) > width
        for c in range(classes):
            true = slow_band(truth == c, width, border_outside=border_outside) & usable
            seen = (prediction == c) & (truth != IGNORE)
            predicted = slow_band(seen, width, border_outside=border_outside) & usable
            shared[c] += (true & predicted).sum()
            union[c] += (true | predicted).sum()
    return mean([s / u for s, u in zip(shared, union, strict=True) if u])


def slow_boundary_f(
    pictures: list[Picture], classes: int = 5, *, ignore_makes_edges: bool = False, empty_is_one: bool = False
) -> float | None:
    counts = np.zeros((classes, 4))  # predicted, of them matched, true, of them matched
    for truth, prediction in pictures:
        theta = max(1, round(0.0075 * math.hypot(*truth.shape)))
        seen = np.where(truth == IGNORE, IGNORE, prediction)
        judged = slow_distance(truth == IGNORE, euclidean) > (0 if ignore_makes_edges else theta)
        true_edges = slow_edges(truth, ignore_makes_edges=ignore_makes_edges)
        predicted_edges = slow_edges(seen, ignore_makes_edges=ignore_makes_edges)
        for c in range(classes):
            true, predicted = true_edges & (truth == c), predicted_edges & (seen == c)
            near_true = slow_distance(true, euclidean) <= theta
            near_predicted = slow_distance(predicted, euclidean) <= theta
            sets = (predicted, predicted & near_true, true, true & near_predicted)
            counts[c] += [(pixels & judged).sum() for pixels in sets]
    values = []
    for predicted_n, right, true_n, found in counts:
        if not predicted_n + true_n:
            values += [1.0] if empty_is_one else []
        elif not predicted_n or not true_n or not right + found:
            values.append(0.0)
        else:
            precision, recall = right / predicted_n, found / true_n
            values.append(2 * precision * recall / (precision + recall))
    return mean(values)


def slow_miou(triples: list[tuple[Labels, Labels, Mask]], classes: int = 5) -> float | None:
    hits, union, true = np.zeros((3, classes))
    for truth, prediction, where in triples:
        for c in range(classes):
            true[c] += (where & (truth == c)).sum()
            hits[c] += (where & (truth == c) & (prediction == c)).sum()
            union[c] += (where & ((truth == c) | (prediction == c))).sum()
    return mean([h / u for h, u, t in zip(hits, union, true, strict=True) if t])


def slow_by_distance(
    pictures: list[Picture], classes: int = 5, *, ignore_makes_edges: bool = False
) -> dict[str, object]:
    ringed: dict[int, list[tuple[Labels, Labels, Mask]]] = {r: [] for r in RADII}
    interior, near_wrong, wrong = [], 0, 0
    for truth, prediction in pictures:
        width = max(1, round(0.02 * math.hypot(*truth.shape)))
        distance = 1 + slow_distance(slow_edges(truth, ignore_makes_edges=ignore_makes_edges), euclidean)
        labelled = truth != IGNORE
        for r in RADII:
            ringed[r].append((truth, prediction, labelled & (distance <= r)))
        interior.append((truth, prediction, labelled & (distance > width)))
        mistakes = labelled & (truth != prediction)
        near_wrong += int((mistakes & (distance <= width)).sum())
        wrong += int(mistakes.sum())
    return {
        "trimap": {r: slow_miou(triples, classes) for r, triples in ringed.items()},
        "interior_miou": slow_miou(interior, classes),
        "error_near_boundary": near_wrong / wrong if wrong else None,
    }


def slow_size_iou(pictures: list[Picture], classes: int = 5) -> dict[str, float | None]:
    counts = np.zeros((3, classes, 3))  # hits, union, true pixels
    for truth, prediction in pictures:
        seen = np.where(truth == IGNORE, IGNORE, prediction)
        true_size, predicted_size = slow_sizes(truth), slow_sizes(seen)
        for at in np.argwhere(truth != IGNORE):
            t, p = truth[tuple(at)], prediction[tuple(at)]
            counts[true_size[tuple(at)], t] += (t == p, 1, 1)
            if t != p:
                counts[predicted_size[tuple(at)], p, 1] += 1
    return {name: mean([h / u for h, u, t in counts[i] if t]) for i, name in enumerate(("small", "medium", "large"))}


# ---- against the definitions


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_the_slow_definitions(shape: tuple[int, int], ignored: bool) -> None:
    pictures = [picture(7, shape, ignored=ignored), picture(8, (11, 17), ignored=ignored)]
    fast = asdict(score(pictures))
    slow = {
        "boundary_iou": slow_boundary_iou(pictures),
        "boundary_f": slow_boundary_f(pictures),
        "size_iou": slow_size_iou(pictures),
        **slow_by_distance(pictures),
    }
    for name, expected in slow.items():
        assert fast[name] == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_slow_definitions_on_many_small_pictures(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pictures = [picture(100 * seed + i, (int(rng.integers(2, 20)), int(rng.integers(2, 20)))) for i in range(3)]
    fast = score(pictures)
    assert fast.boundary_iou == pytest.approx(slow_boundary_iou(pictures), abs=1e-12)
    assert fast.boundary_f == pytest.approx(slow_boundary_f(pictures), abs=1e-12)
    assert fast.size_iou == pytest.approx(slow_size_iou(pictures), abs=1e-12)
    for name, expected in slow_by_distance(pictures).items():
        assert getattr(fast, name) == pytest.approx(expected, abs=1e-12), name


def test_twins_with_a_known_mistake_differ() -> None:
    """The comparison above would notice each of the usual mistakes."""
    pictures = [picture(7, (23, 31)), picture(8, (11, 17))]
    fast = score(pictures)
    assert fast.boundary_iou != pytest.approx(slow_boundary_iou(pictures, border_outside=False), abs=1e-5)
    assert fast.boundary_f != pytest.approx(slow_boundary_f(pictures, ignore_makes_edges=True), abs=1e-5)
    assert fast.boundary_f != pytest.approx(slow_boundary_f(pictures, empty_is_one=True), abs=1e-5)
    wrong = slow_by_distance(pictures, ignore_makes_edges=True)
    for name in ("trimap", "interior_miou", "error_near_boundary"):
        assert getattr(fast, name) != pytest.approx(wrong[name], abs=1e-5), name


@pytest.mark.parametrize("width", [1, 2, 5, 40])
def test_band_of_all_classes_at_once_is_the_eroded_mask_of_each(width: int) -> None:
    labels = regions(np.random.default_rng(1), (29, 37), 3, grain=6.0).astype(np.int16)
    band = boundary_metrics.inner_band(labels, width)
    for c in range(3):
        np.testing.assert_array_equal(band & (labels == c), slow_band(labels == c, width))


@pytest.mark.parametrize("radius", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shape", [(1, 1), (2, 19), (13, 3), (17, 23)])
def test_spread_is_a_disc(shape: tuple[int, int], radius: int) -> None:
    rng = np.random.default_rng(radius)
    marks = rng.random((3, *shape)) < 0.03
    bits = np.array([0, 5, 63], dtype=np.uint64)
    together = np.bitwise_or.reduce(marks.astype(np.uint64) << bits[:, None, None])
    spread = boundary_metrics.dilate_marks(together, radius)
    for plane, bit in zip(marks, bits, strict=True):
        reached = (spread >> bit) & np.uint64(1)
        np.testing.assert_array_equal(reached == 1, slow_distance(plane, euclidean) <= radius)


@pytest.mark.parametrize("seed", range(6))
def test_object_sizes_are_those_of_a_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    maps = np.stack([regions(rng, (19, 31), 3, grain=grain) for grain in (0.3, 1.0, 2.0)]).astype(np.int16)
    for found, labels in zip(boundary_metrics.object_sizes(maps), maps, strict=True):
        np.testing.assert_array_equal(found, slow_sizes(labels))


def test_more_classes_than_one_word_has_bits() -> None:
    rng = np.random.default_rng(3)
    truth, prediction = rng.integers(0, 254, size=(2, 17, 29)).astype(np.uint8)
    prediction[:, 5:] = np.roll(truth, 1, axis=1)[:, 5:]
    pictures = [(truth, prediction)]
    expected = slow_boundary_f(pictures, 254)
    assert expected is not None
    assert 0.3 < expected < 0.99
    assert score(pictures, 254).boundary_f == pytest.approx(expected)


# ---- by hand


def halves(column: int, shape: tuple[int, int] = (20, 20)) -> Labels:
    labels = np.zeros(shape, dtype=np.uint8)
    labels[:, column:] = 1
    return labels


def test_boundary_displaced_by_one_pixel() -> None:
    scores = score([(halves(10), halves(11))])
    assert (scores.boundary_width_px, scores.tolerance_px) == ((1, 1), (1, 1))
    assert scores.boundary_f == 1.0  # within the tolerance
    assert scores.boundary_iou == pytest.approx((38 / 76 + 36 / 74) / 2)
    assert scores.trimap[1] == pytest.approx((20 / 40 + 0 / 20) / 2)
    assert scores.trimap[2] == pytest.approx((40 / 60 + 20 / 40) / 2)
    assert scores.interior_miou == 1.0
    assert scores.error_near_boundary == 1.0
    assert scores.size_iou == {"small": None, "medium": None, "large": pytest.approx((200 / 220 + 180 / 200) / 2)}


def test_boundary_displaced_by_three_pixels() -> None:
    scores = score([(halves(10), halves(13))])
    assert scores.boundary_f == 0.0
    assert scores.error_near_boundary == pytest.approx(1 / 3)
    assert scores.interior_miou == pytest.approx((180 / 220 + 140 / 180) / 2)


def test_band_wider_than_the_trimap() -> None:
    truth = halves(1000, (1, 2100))
    prediction = truth.copy()
    prediction[0, [1041, 1042]] = 0  # at distance 42 and 43
    scores = score([(truth, prediction)])
    assert scores.boundary_width_px == (42, 42)
    assert scores.error_near_boundary == 1 / 2
    assert scores.trimap[40] == 1.0


def test_confused_class_is_an_interior_error() -> None:
    truth = halves(10)
    prediction = np.where(truth == 1, 2, 0)
    scores = score([(truth, prediction)])
    assert scores.error_near_boundary == pytest.approx(20 / 200)
    assert scores.interior_miou == pytest.approx((1 + 0) / 2)
    assert scores.interior_classes == 2
    assert scores.boundary_f == pytest.approx(1 / 3)  # classes 1 and 2 have boundary pixels on one side only


@pytest.mark.parametrize(("pixels", "size"), [(3, "small"), (4, "medium"), (39, "medium"), (40, "large")])
def test_limits_of_the_sizes(pixels: int, size: str) -> None:
    truth = np.zeros((20, 20), dtype=np.uint8)
    truth.reshape(-1)[:pixels] = 1
    expected = {"small": None, "medium": None, "large": (400 - pixels) / 400}
    expected[size] = 0.0 if size != "large" else (360 / 400 + 0) / 2
    assert score([(truth, np.zeros_like(truth))]).size_iou == pytest.approx(expected)


def test_diagonal_pole_is_one_object_and_a_false_positive_has_its_predicted_size() -> None:
    truth = np.zeros((20, 20), dtype=np.uint8)
    np.fill_diagonal(truth[:5, :5], 1)  # 5 pixels that touch at corners: medium
    prediction = truth.copy()
    prediction[10, 10:12] = 1  # 2 pixels: small
    assert score([(truth, prediction)]).size_iou == {
        "small": None,  # no true object is
        "medium": 1.0,
        "large": pytest.approx(393 / 395),
    }


@pytest.mark.parametrize("seed", range(4))
def test_sizes_add_up_to_the_whole_confusion(seed: int) -> None:
    scorer = BoundaryScorer(5)
    for i in range(3):
        scorer.add(*picture(10 * seed + i, (31, 43)))
    counts = scorer.confusion.counts
    hits = np.diag(counts)
    np.testing.assert_array_equal(scorer.hits.sum(0), hits)
    np.testing.assert_array_equal(scorer.misses.sum(0), counts.sum(1) - hits)
    np.testing.assert_array_equal(scorer.false_positives.sum(0), counts.sum(0) - hits)


def test_one_false_pixel_of_a_class_without_true_pixels_there_is_one_false_pixel() -> None:
    truth = np.zeros((60, 60), dtype=np.uint8)
    truth[:30, :30] = 1
    truth[40:50, 45:47] = 2  # a pole: no pixel of it is farther than the band's width from its outline
    prediction = truth.copy()
    prediction[15, 15] = 2  # inside class 1, which has 27 x 27 interior pixels
    perfect, spoilt = score([(truth, truth)]), score([(truth, prediction)])
    assert (perfect.interior_miou, perfect.interior_classes) == (1.0, 2)
    assert (spoilt.interior_miou, spoilt.interior_classes) == (pytest.approx((1 + 1 - 1 / interior(truth, 1)) / 2), 2)
    assert set(perfect.trimap.values()) == {1.0}
    wide = {20: 800, 40: 900}  # radii beyond the 15 px of the false pixel, and pixels of class 1 within them
    within = {radius: pytest.approx((1 + (true - 1) / true + 20 / 21) / 3) for radius, true in wide.items()}
    assert spoilt.trimap == dict.fromkeys(RADII, 1.0) | within
    assert spoilt.trimap_classes == dict.fromkeys(RADII, 3)
    small = pytest.approx(20 / 21)  # the pole is small, and so is the false pixel
    assert spoilt.size_iou == {"small": small, "medium": None, "large": pytest.approx((1 + 899 / 900) / 2)}
    assert spoilt.size_classes == {"small": 1, "medium": 0, "large": 2}


def interior(truth: Labels, label: int) -> int:
    """Pixels of a class farther than the band's width from every true boundary, by the slow definition."""
    width = max(1, round(0.02 * math.hypot(*truth.shape)))
    distance = 1 + slow_distance(slow_edges(truth), euclidean)
    return int(((truth == label) & (distance > width)).sum())


@pytest.mark.parametrize("shape", [(23, 31), (7, 211)])
def test_perfect_prediction(shape: tuple[int, int]) -> None:
    truth, _ = picture(5, shape)
    scores = score([(truth, np.where(truth == IGNORE, 0, truth))])
    assert scores.boundary_iou == scores.boundary_f == scores.interior_miou == 1.0
    assert scores.error_near_boundary is None
    assert set(scores.trimap.values()) == {1.0}
    assert set(scores.size_iou.values()) <= {1.0, None}


def test_picture_of_one_class() -> None:
    truth = np.full((11, 13), 2, dtype=np.uint8)
    prediction = truth.copy()
    prediction[5, 5] = 0
    scores = score([(truth, prediction)])
    assert set(scores.trimap.values()) == {None}
    assert scores.error_near_boundary == 0.0
    assert (scores.interior_miou, scores.interior_classes) == (pytest.approx(142 / 143), 1)
    assert scores.boundary_f == 0.0
    assert score([(truth, truth)]).boundary_f is None
    assert score([(truth, truth)]).boundary_iou == 1.0


def test_what_is_predicted_under_ignored_truth_changes_nothing() -> None:
    truth, prediction = picture(9, (23, 31))
    other = np.where(truth == IGNORE, 10**6, prediction.astype(np.int64))
    assert score([(truth, prediction)]) == score([(truth, other)])


def test_nothing_seen_and_nothing_labelled() -> None:
    nothing = dict.fromkeys(("boundary_iou", "boundary_f", "interior_miou", "error_near_boundary"))
    empty = asdict(BoundaryScorer(3).scores())
    assert empty == {
        **nothing,
        "trimap": dict.fromkeys(RADII),
        "size_iou": dict.fromkeys(("small", "medium", "large")),
        "interior_classes": 0,
        "trimap_classes": dict.fromkeys(RADII, 0),
        "size_classes": dict.fromkeys(("small", "medium", "large"), 0),
        "boundary_width_px": None,
        "tolerance_px": None,
    }
    ignored = np.full((4, 6), IGNORE, dtype=np.uint8)
    assert asdict(score([(ignored, ignored)])) == {**empty, "boundary_width_px": (1, 1), "tolerance_px": (1, 1)}


def test_spans_are_over_the_pictures() -> None:
    scorer = BoundaryScorer(2)
    for shape in ((300, 400), (30, 40), (600, 800), (60, 80)):  # diagonals 500, 50, 1000, 100
        scorer.add(halves(10, shape), halves(10, shape))
    assert scorer.scores().boundary_width_px == (1, 20)
    assert scorer.scores().tolerance_px == (1, 8)


def test_without_regions_the_other_scores_are_the_same() -> None:
    both, some = BoundaryScorer(5), BoundaryScorer(5, regions=False)
    for seed in range(3):
        for scorer in (both, some):
            scorer.add(*picture(seed, (23, 31)))
    assert some.confusion.scores() == both.confusion.scores()
    whole, less = asdict(both.scores()), asdict(some.scores())
    kept = {"boundary_iou", "boundary_f", "boundary_width_px", "tolerance_px"}
    assert {name: less[name] for name in kept} == {name: whole[name] for name in kept}
    assert whole["interior_miou"] is not None
    nothing = asdict(BoundaryScorer(5).scores())
    assert {name: less[name] for name in less.keys() - kept} == {name: nothing[name] for name in less.keys() - kept}


def test_label_outside_the_classes_is_refused_and_counts_nothing() -> None:
    scorer = BoundaryScorer(2)
    with pytest.raises(ValueError, match=r"label value 2 outside 0\.\.1"):
        scorer.add(halves(10), halves(10) * 2)
    assert scorer.scores() == BoundaryScorer(2).scores()


def test_metrics_are_plain_values_for_a_row() -> None:
    metrics = score([picture(1, (11, 17))]).metrics()
    names = ["boundary_iou", "boundary_f", "interior_miou", "error_near_boundary", "trimap", "size_iou"]
    assert list(metrics) == [*names, "interior_classes", "trimap_classes", "size_classes"]
    trimap, sizes = metrics["trimap"], metrics["size_iou"]
    assert isinstance(trimap, dict)
    assert isinstance(sizes, dict)
    assert list(trimap) == ["1", "2", "3", "5", "8", "13", "20", "40"]
    values = [*trimap.values(), *sizes.values(), *(metrics[name] for name in list(metrics)[:4])]
    assert {type(value) for value in values} <= {float, type(None)}
