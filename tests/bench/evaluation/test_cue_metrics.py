"""Look-alike accuracy by distance of the cue: counted exactly, with references that are right by enumeration."""

import itertools

import numpy as np
import pytest

from bench.evaluation.cue_metrics import BIN_PX, CueScorer, blind_miou
from bench.evaluation.metrics import ConfusionMatrix
from bench.stats.half_range import half_range
from unept.data.scenes import SceneConfig
from unept.data.scenes_v2 import CLASSES, LOOKALIKES, NO_CUE, ScenesV2

CONFIG = SceneConfig(scene_val=60)


def twin(label):
    """Every look-alike pixel given to the other class of its pair."""
    swap = np.arange(len(CLASSES), dtype=np.uint8)
    for first, second in LOOKALIKES:
        swap[[first, second]] = second, first
    return swap[label]


def metrics_of(predict, emblems=2):
    """The metrics of a prediction, a function of (label, distance, number of the picture)."""
    dataset = ScenesV2(CONFIG, "val", emblems)
    scorer, confusion = CueScorer(LOOKALIKES), ConfusionMatrix(len(CLASSES))
    for index in range(len(dataset)):
        label, distance = dataset[index].label, dataset.cue_distance(index)
        prediction = predict(label, distance, index)
        scorer.add(label, prediction, distance)
        confusion.add(label, prediction)
    return scorer.metrics(emblems, confusion.counts.sum(1).tolist()), confusion


def test_who_is_told_is_right_everywhere():
    metrics, confusion = metrics_of(lambda label, *_: label)
    assert metrics["context_share"] == 1
    assert set(metrics["cue_accuracy"].values()) == {1.0}
    assert set(metrics["cue_error"].values()) == {0.0}
    assert metrics["references"]["told_miou"] == confusion.scores().miou == 1
    assert sum(metrics["cue_pixels"].values()) == confusion.counts[2:6].sum()


def test_who_always_says_the_other_has_less_than_nothing():
    metrics, _ = metrics_of(lambda label, *_: twin(label))
    assert metrics["context_share"] == -1


def test_who_sees_so_far_is_right_so_far():
    def predict(label, distance, _):
        return np.where((distance < 24) | (distance == NO_CUE), label, twin(label))

    metrics, _ = metrics_of(predict)
    assert {int(name): value for name, value in metrics["cue_accuracy"].items()} == {
        int(name): float(int(name) < 24) for name in metrics["cue_accuracy"]
    }
    assert {int(name) % BIN_PX for name in metrics["cue_accuracy"]} == {0}


def test_a_blind_model_of_perfect_eyes_has_the_reference_s_miou():
    """Mean over tosses of a coin for each object, here for each picture and class of distance."""
    generator = np.random.default_rng(1)

    def predict(label, distance, _):
        tosses = generator.integers(2, size=256)
        return np.where(tosses[distance] == 1, twin(label), label)

    made = [metrics_of(predict) for _ in range(8)]
    references = made[0][0]["references"]
    assert np.mean([metrics["context_share"] for metrics, _ in made]) == pytest.approx(0, abs=0.06)
    assert np.mean([confusion.scores().miou for _, confusion in made]) == pytest.approx(
        references["blind_miou"], abs=0.02
    )


def test_no_share_of_the_coin_beats_the_blind_reference():
    counts = [100, 100, 40, 40, 30, 30, 20]
    best = blind_miou(counts, LOOKALIKES)
    for p in (0.0, 0.3, 0.7, 1.0):
        ious = [1, 1, 1] + 2 * [p / (1 + p), (1 - p) / (2 - p)]
        assert sum(ious) / 7 < best
    assert blind_miou([0] * 7, LOOKALIKES) is None


@pytest.mark.parametrize("emblems", [1, 2, 3, 4])
def test_the_unplaced_reference_is_that_of_guessing_by_the_commoner_colour(emblems):
    metrics, _ = metrics_of(lambda label, *_: label, emblems)
    share = np.mean([max(sum(b), emblems - sum(b)) / emblems for b in itertools.product((0, 1), repeat=emblems)])
    assert metrics["references"]["unplaced_accuracy"] == pytest.approx(share, abs=1e-12)


def test_pixels_given_to_other_classes_do_not_count():
    metrics, _ = metrics_of(lambda label, *_: np.zeros_like(label))
    assert metrics["context_share"] is None
    assert metrics["cue_accuracy"] == {}


def test_sums_of_two_halves_are_those_of_the_whole():
    dataset = ScenesV2(CONFIG, "val")
    generator = np.random.default_rng(2)
    whole, halves = CueScorer(LOOKALIKES), [CueScorer(LOOKALIKES), CueScorer(LOOKALIKES)]
    for index in range(20):
        label, distance = dataset[index].label, dataset.cue_distance(index)
        prediction = np.where(generator.random(label.shape) < 0.3, twin(label), label)
        whole.add(label, prediction, distance)
        halves[index % 2].add(label, prediction, distance)
    halves[0].merge(halves[1].sums())
    assert halves[0].metrics(2, [1] * 7) == whole.metrics(2, [1] * 7)


def test_the_error_is_that_of_pictures_drawn_again():
    """The standard error of a ratio over pictures agrees with a bootstrap of the pictures, within a tenth."""
    dataset = ScenesV2(CONFIG, "val")
    generator = np.random.default_rng(3)
    scorer, counts = CueScorer(LOOKALIKES), []
    for index in range(len(dataset)):
        label, distance = dataset[index].label, dataset.cue_distance(index)
        prediction = twin(label) if generator.random() < 0.3 else label
        scorer.add(label, prediction, distance)
        near = (distance >= 16) & (distance < 24)
        counts.append(((near & (label == prediction)).sum(), near.sum()))
    right, pixels = np.array(counts).T
    drawn = generator.integers(len(counts), size=(4000, len(counts)))
    expected = (right[drawn].sum(1) / pixels[drawn].sum(1)).std()
    assert scorer.metrics(2, [1] * 7)["cue_error"]["16"] == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("accuracies", "expected"),
    [
        ([1.0, 1.0, 0.5, 0.5], 16.0),  # falls to .75 in the middle between 12 and 20
        ([0.9, 0.7, 0.5, 0.5], 12.0),
        ([0.52, 0.5, 0.5, 0.5], 0.0),
        ([1.0, 0.9, 0.9, 0.8], np.inf),
        ([0.9, 0.6, 0.9, 0.9], 4 + 8 * 0.2 / 0.3),
        ([0.7, 0.9, 0.6, 0.5], 12 + 8 * 0.2 / 0.3),  # of the highest value, not of the first
        ([0.5, 0.55, 0.59, 0.5], 0.0),
        ([], 0.0),
    ],
)
def test_the_half_range_is_where_half_the_way_to_chance_is_gone(accuracies, expected):
    distances = [4.0, 12.0, 20.0, 28.0][: len(accuracies)]
    lows = [value - 0.05 for value in accuracies]
    assert half_range(distances, accuracies, lows, chance=0.5) == pytest.approx(expected)


def test_an_accuracy_whose_interval_reaches_chance_is_no_highest_value():
    assert half_range([4.0, 12.0, 20.0], [0.9, 0.8, 0.5], [0.45, 0.7, 0.4], chance=0.5) == pytest.approx(16)
    assert half_range([4.0, 12.0], [0.7, 0.5], [0.4, 0.3], chance=0.5) == 0
