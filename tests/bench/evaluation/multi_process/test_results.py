"""Results of single pictures: equal to the confusion of other tools, additive, and whole or refused when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from bench.evaluation.boundary_metrics import BoundaryScorer
from bench.evaluation.multi_process import results
from bench.evaluation.multi_process.results import ImageResults
from bench.evaluation.protocol import LabelMaps
from unept.utils import torchvision_shim

CLASSES = 19


def case(number: int, classes: int = CLASSES) -> tuple[np.ndarray, LabelMaps]:
    """Truth with ignored pixels, and two predictions that are often right."""
    chance = np.random.default_rng(number)
    truth = chance.integers(0, classes, (24, 31)).astype(np.uint8)
    wrong = chance.integers(0, classes, (2, 24, 31)).astype(np.uint8)
    plain, refined = np.where(chance.random((2, 24, 31)) < 0.6, truth, wrong)
    truth[chance.random(truth.shape) < 0.1] = 255
    return truth, LabelMaps(plain, refined)


def counted(numbers: range, refines: bool = True) -> ImageResults:
    found = ImageResults(CLASSES)
    for number in numbers:
        truth, labels = case(number)
        found.add(number, f"picture {number}", truth, labels if refines else LabelMaps(labels.plain, None))
    return found


def confusion(cells: np.ndarray, number: int | None = None) -> np.ndarray:
    dense = np.zeros((CLASSES, CLASSES), np.int64)
    for each, true, predicted, pixels in cells:
        if number in (None, each):
            dense[true, predicted] += pixels
    return dense


def test_each_pictures_confusion_is_that_of_torchmetrics() -> None:
    torchvision_shim.ensure()
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    found = counted(range(5))
    for kind in results.KINDS:
        for number in range(5):
            truth, labels = case(number)
            predicted = torch.from_numpy(getattr(labels, kind)).long()
            expected = multiclass_confusion_matrix(
                predicted, torch.from_numpy(truth).long(), num_classes=CLASSES, ignore_index=255
            )
            assert (confusion(found.table(kind), number) == expected.numpy()).all()


def test_the_confusion_is_that_of_cityscapesscripts(tmp_path: Path) -> None:
    """Their own pixel-level functions, on the files they read: ids of labels and of predictions."""
    labels = pytest.importorskip("cityscapesscripts.helpers.labels")
    theirs = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    ids = np.zeros(256, np.uint8)  # id 0 is void there
    for label in labels.labels:
        if 0 <= label.trainId < CLASSES:
            ids[label.trainId] = label.id
    args = theirs.args
    args.evalInstLevelScore = False
    args.evalPixelAccuracy = False
    args.quiet = True
    matrix = theirs.generateMatrix(args)
    found = counted(range(3), refines=False)
    for number in range(3):
        truth, predicted = case(number)
        names = tmp_path / f"p{number}.png", tmp_path / f"t{number}.png"
        Image.fromarray(ids[predicted.plain]).save(names[0])
        Image.fromarray(ids[truth]).save(names[1])
        theirs.evaluatePair(str(names[0]), str(names[1]), matrix, {"classes": {}, "categories": {}}, {}, args)
    order = [label.id for train in range(CLASSES) for label in labels.labels if label.trainId == train]
    assert (confusion(found.table()) == matrix[np.ix_(order, order)]).all()
    scores = {name: theirs.getIouScoreForLabel(labels.trainId2label[name].id, matrix, args) for name in range(CLASSES)}
    assert [*found.scores()[0].iou] == pytest.approx([scores[name] for name in range(CLASSES)], abs=1e-12)


def test_parts_add_up_to_the_whole_in_any_order(tmp_path: Path) -> None:
    whole = counted(range(7))
    parts = [counted(range(5, 7)), counted(range(3)), counted(range(3, 5))]
    for number, part in enumerate(parts):
        part.write(tmp_path / f"{number}.npz")
    found = results.merge_results((results.read_results(tmp_path / f"{n}.npz", CLASSES) for n in range(3)), CLASSES)
    for kind in results.KINDS:
        assert (found.table(kind) == whole.table(kind)).all()
        assert (found.per_picture(kind) == whole.per_picture(kind)).all()
        assert found.scores(kind) == whole.scores(kind)
    assert found.names == whole.names
    alone = BoundaryScorer(CLASSES)
    for number in range(7):
        alone.add(case(number)[0], case(number)[1].refined)
    assert found.scores("refined")[1] == alone.scores()


def test_what_a_bootstrap_needs_of_each_picture() -> None:
    found = counted(range(4))
    hits, true, predicted = found.per_picture()
    assert hits.shape == (4, CLASSES)
    for number in range(4):
        dense = confusion(found.table(), number)
        assert (hits[number] == np.diag(dense)).all()
        assert (true[number] == dense.sum(1)).all()
        assert (predicted[number] == dense.sum(0)).all()


def test_a_model_that_does_not_refine() -> None:
    found = counted(range(2), refines=False)
    assert not found.refines
    assert counted(range(2)).refines
    assert found.scores("refined")[0].miou is None
    assert found.table("refined").shape == (0, 4)


def test_no_picture_twice() -> None:
    with pytest.raises(ValueError, match="picture 2 is counted twice"):
        results.merge_results([counted(range(3)), counted(range(2, 4))], CLASSES)
    with pytest.raises(ValueError, match=r"label value 19 outside 0\.\.18"):
        counted(range(1)).add(9, "a", np.full((2, 2), 19), LabelMaps(np.zeros((2, 2), np.uint8), None))


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "pickle", "classes", "bits"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "part.npz"
    counted(range(2)).write(path)
    content = path.read_bytes()
    if damage == "pickle":
        arrays: dict[str, Any] = {"classes": np.array({"a": 1}, dtype=object)}
        np.savez(path, **arrays)
    elif damage != "classes":
        changed = bytearray(content)
        changed[len(content) // 2] ^= 4
        path.write_bytes({"cut": content[:-50], "empty": b"", "text": b"x" * 99, "bits": bytes(changed)}[damage])
    with pytest.raises(ValueError, match=r"part\.npz: damaged, or no results of") as caught:
        results.read_results(path, 7 if damage == "classes" else CLASSES)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"no\.npz: file does not exist"):
        results.read_results(tmp_path / "no.npz", CLASSES)
