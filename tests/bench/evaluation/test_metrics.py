"""mIoU and pixel accuracy against hand-made cases and torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.evaluation.metrics import ConfusionMatrix
from unept.utils import torchvision_shim


def confusion(truth: list[list[int]], prediction: list[list[int]], classes: int = 3) -> ConfusionMatrix:
    counted = ConfusionMatrix(classes)
    counted.add(np.array(truth, dtype=np.uint8), np.array(prediction))
    return counted


def test_hand_made_case() -> None:
    scores = confusion([[0, 0, 1], [1, 2, 255]], [[0, 1, 1], [1, 2, 0]]).scores()
    assert scores.iou == (1 / 2, 2 / 3, 1.0)
    assert scores.miou == pytest.approx((1 / 2 + 2 / 3 + 1) / 3)
    assert scores.pixel_accuracy == pytest.approx(4 / 5)


def test_absent_class_is_left_out_of_the_mean_and_a_false_one_is_not() -> None:
    absent = confusion([[0, 0]], [[0, 0]]).scores()
    assert absent.iou == (1.0, None, None)
    assert absent.miou == 1.0
    falsely_predicted = confusion([[0, 0]], [[0, 1]]).scores()
    assert falsely_predicted.iou == (0.5, 0.0, None)
    assert falsely_predicted.miou == 0.25


def test_prediction_under_ignore_does_not_count() -> None:
    assert confusion([[0, 255]], [[0, 2]]).scores().iou == (1.0, None, None)


def test_nothing_labelled_gives_none_not_nan() -> None:
    scores = confusion([[255]], [[0]]).scores()
    assert scores.miou is None
    assert scores.pixel_accuracy is None


def test_means_are_over_data_set_totals_not_over_images() -> None:
    counted = confusion([[0, 0, 0, 1]], [[0, 0, 0, 0]], classes=2)
    counted.add(np.array([[1]]), np.array([[1]]))
    assert counted.scores().iou == (3 / 4, 1 / 2)


@pytest.mark.parametrize("value", [3, 254])
def test_label_outside_the_classes_is_refused(value: int) -> None:
    with pytest.raises(ValueError, match=f"label value {value} outside 0..2"):
        confusion([[value]], [[0]])


def test_equals_torchmetrics_on_random_maps() -> None:
    torchvision_shim.ensure()  # torchmetrics imports torchvision
    from torchmetrics.classification import MulticlassJaccardIndex

    rng = np.random.default_rng(0)
    counted = ConfusionMatrix(7)
    theirs = MulticlassJaccardIndex(7, average="none", ignore_index=255, validate_args=False)
    for shape in ((31, 17), (8, 64), (1, 5)):
        truth = rng.choice([0, 1, 2, 3, 4, 6, 255], size=shape).astype(np.uint8)  # class 5 never occurs
        prediction = np.where(rng.random(shape) < 0.6, truth % 7, rng.choice([0, 1, 2, 3, 4, 6], size=shape))
        counted.add(truth, prediction)
        theirs.update(torch.from_numpy(prediction.astype(np.int64)), torch.from_numpy(truth.astype(np.int64)))
    ours = counted.scores()
    expected = theirs.compute()
    assert ours.iou[5] is None
    for index in (0, 1, 2, 3, 4, 6):
        value = ours.iou[index]
        assert value is not None
        assert math.isclose(value, float(expected[index]), rel_tol=1e-6)


def test_share_of_the_right_class_among_lookalikes() -> None:
    counted = confusion([[0, 0, 1, 1, 2, 3]], [[0, 1, 1, 2, 2, 2]], classes=4)
    assert counted.group_accuracy([(0, 1)]) == pytest.approx(2 / 3)
    assert counted.group_accuracy([(0, 1), (2, 3)]) == pytest.approx(3 / 5)
    assert counted.group_accuracy([]) is None
    assert confusion([[0]], [[0]], classes=4).group_accuracy([(2, 3)]) is None
