"""PASCAL-Context from label maps and from PNGs, whose classes are the same, and what is refused."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import trees
from scipy.io import savemat

from unept.data import check_data, open_data
from unept.data.pascal_context import CLASSES, NUMBERS, read_label_map


@pytest.fixture
def maps(tmp_path):
    return trees.pascal_mat(tmp_path / "maps" / "VOCdevkit" / "VOC2010")


@pytest.fixture
def pngs(tmp_path):
    return trees.pascal_png(tmp_path / "pngs" / "VOCdevkit" / "VOC2010")


def refuse(root, message, split="train"):
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        check_data(f"pascal_context:{root}", splits=(split,))
    assert message in str(caught.value)


def test_classes():
    assert (len(CLASSES), CLASSES[0], CLASSES[1], CLASSES[59]) == (60, "background", "aeroplane", "wood")
    assert list(NUMBERS) == sorted(NUMBERS)
    assert list(NUMBERS.values()) == sorted(set(NUMBERS.values()))
    known = {"aeroplane": 2, "bedclothes": 19, "fence": 144, "person": 284, "sky": 360, "table": 397, "wood": 458}
    assert known.items() <= NUMBERS.items()


def test_label_maps(maps):
    dataset = open_data(f"pascal_context:{maps}", "train")
    assert dataset.name == "PASCAL-Context"
    assert [pair.name for pair in dataset.pairs] == ["2008_000000", "2008_000001"]
    expected = trees.values(*range(1, 60), 0, 0, 0)  # three other categories are background
    np.testing.assert_array_equal(dataset[0].label, expected)
    assert check_data(f"pascal_context:{maps}", classes=60) == CLASSES
    assert [pair.name for pair in open_data(f"pascal_context:{maps}", "val").pairs] == ["2010_000000", "2010_000001"]


def test_pngs_are_taken_where_there_are_any_and_say_the_same(pngs):
    np.testing.assert_array_equal(open_data(f"pascal_context:{pngs}", "val")[0].label, trees.values(*range(60)))
    assert check_data(f"pascal_context:{pngs}", classes=60) == CLASSES
    trees.label_map(pngs / "trainval" / "2008_000000.mat", trees.values(2))
    assert open_data(f"pascal_context:{pngs}", "train").pairs[0].label.suffix == ".png"
    shutil.rmtree(pngs / "SegmentationClassContext")
    refuse(pngs, "2008_000001.jpg: no label")


def test_own_lists_come_before_vocs(maps):
    own = maps / "ImageSets" / "SegmentationContext"
    own.mkdir()
    (own / "train.txt").write_text("2008_000001\n\n")
    assert [pair.name for pair in open_data(f"pascal_context:{maps}", "train").pairs] == ["2008_000001"]
    refuse(maps, "SegmentationContext/val.txt", split="val")
    (own / "val.txt").write_text("\n")
    refuse(maps, "val.txt: names no image", split="val")
    (own / "val.txt").write_text("2010_000000\n2010_000000\n")
    refuse(maps, "val.txt, line 2: image '2010_000000' is named a second time", split="val")
    (own / "val.txt").write_text("2010_000000\n2010_000007\n")
    refuse(maps, "val.txt, line 2: no image", split="val")


def test_what_is_missing(maps, tmp_path):
    refuse(tmp_path / "nowhere", "data folder does not exist")
    refuse(maps.parent.parent, f"no folder JPEGImages in it, VOC 2010's pictures; did you mean {maps}?")
    with pytest.raises(ValueError, match="split 'test' of pascal_context: expected one of train, val"):
        open_data(f"pascal_context:{maps}", "test")
    (maps / "trainval" / "2008_000001.mat").unlink()
    refuse(maps, "2008_000001.jpg: no label")
    shutil.rmtree(maps / "trainval")
    refuse(maps, "no labels: expected ")


def test_another_list_of_categories_is_refused(maps):
    text = (maps / "labels.txt").read_text()
    (maps / "labels.txt").write_text(text.replace("440: wall", "440: wall-brick"))
    refuse(maps, "labels.txt: 'wall' has the number None: expected 440")
    (maps / "labels.txt").rename(maps / "trainval" / "labels.txt")
    refuse(maps, "trainval/labels.txt: 'wall'")
    (maps / "trainval" / "labels.txt").unlink()
    check_data(f"pascal_context:{maps}")


@pytest.mark.parametrize("kept", [0, 20, 130, 180, -10])
def test_truncated_label_maps_are_named(maps, kept):
    path = maps / "trainval" / "2008_000001.mat"
    path.write_bytes(path.read_bytes()[:kept])
    refuse(maps, "2008_000001.mat: ")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"label": np.zeros((2, 2))}, "no variable LabelMap in it"),
        ({"LabelMap": "abc"}, "LabelMap is no matrix of real numbers"),
        ({"LabelMap": np.zeros((2, 2, 3))}, "expected whole numbers (height, width)"),
        ({"LabelMap": np.full((2, 2), 0.5)}, "expected whole numbers"),
        ({"LabelMap": np.full((2, 2), np.nan)}, "expected whole numbers"),
        ({"LabelMap": np.full((2, 2), -1.0)}, "LabelMap has values -1.0 to -1.0"),
        ({"LabelMap": np.zeros((0, 0))}, "expected whole numbers"),
        ({"LabelMap": np.full((16, 24), 460.0)}, "label value 460 is outside 0..459"),
        ({"LabelMap": np.full((4, 4), 2.0)}, "label of 4x4 pixels for an image of 24x16"),
    ],
)
def test_label_maps_that_hold_something_else(maps, variables, message):
    savemat(maps / "trainval" / "2008_000000.mat", variables)
    refuse(maps, message)


def test_whole_numbers_of_any_type(tmp_path):
    for kind in (np.uint8, np.int32, np.float64):
        savemat(tmp_path / "x.mat", {"LabelMap": trees.values(1, 2).astype(kind)})
        found = read_label_map(tmp_path / "x.mat")
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, trees.values(1, 2))
