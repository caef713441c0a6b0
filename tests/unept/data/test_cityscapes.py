"""Cityscapes in its owners' layout, its label table against theirs, and files for their test server."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import trees
from camvid_as_cityscapes import CAMVID, cityscapes_name, lay_out
from PIL import Image

from unept.data import check_data, open_data
from unept.data.cityscapes import ENCODINGS, TABLE, write_result
from unept.data.image_dataset import read_label


@pytest.fixture
def city(tmp_path):
    return trees.cityscapes(tmp_path / "cityscapes")


def gone(root, pattern):
    for path in root.rglob(pattern):
        path.unlink()


def test_label_ids_become_train_ids(city):
    dataset = open_data(f"cityscapes:{city}", "train")
    assert dataset.name == "Cityscapes"
    assert (len(dataset), len(dataset.classes), len(set(dataset.palette))) == (2, 19, 19)
    assert dataset[1].name == "aachen/aachen_000001_000019"
    np.testing.assert_array_equal(dataset[0].label, trees.train_ids(trees.values(*range(34)).astype(np.uint8)))
    np.testing.assert_array_equal(dataset[0].image, trees.noise(0))
    assert check_data(f"cityscapes:{city}", classes=19)[18] == "bicycle"


def test_train_ids_are_read_as_they_are(tmp_path):
    root = trees.cityscapes(tmp_path, kind="labelTrainIds")
    label = open_data(f"cityscapes:{root}", "val")[0].label
    np.testing.assert_array_equal(label, trees.values(*range(19), 255))
    check_data(f"cityscapes:{root}")


def test_a_licence_plate_written_as_255_is_ignored(city):
    path = city / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png"
    label = read_label(path)
    label[0, :3] = (255, 26, 0)
    trees.write(path, label)
    assert open_data(f"cityscapes:{city}", "train")[0].label[0, :3].tolist() == [255, 13, 255]


def test_the_kind_of_label_that_more_pictures_have(city):
    for path in (city / "gtFine" / "train").rglob("*labelIds.png"):
        train = path.with_name(path.name.replace("labelIds", "labelTrainIds"))
        trees.write(train, trees.train_ids(read_label(path)))
    spec = f"cityscapes:{city}"
    assert "labelIds" in str(open_data(spec, "train").pairs[0].label)
    next((city / "gtFine" / "train").rglob("*labelIds.png")).unlink()
    assert "labelTrainIds" in str(open_data(spec, "train").pairs[0].label)
    check_data(spec)


def test_the_test_split_has_pictures_and_no_labels(city):
    shutil.rmtree(city / "gtFine" / "test")
    dataset = open_data(f"cityscapes:{city}", "test")
    assert (len(dataset), dataset.labelled) == (2, False)
    assert (dataset[0].label == 255).all()
    assert dataset[0].label.shape == (trees.HEIGHT, trees.WIDTH)
    with pytest.raises(ValueError, match="split 'test' has no labels: it can neither be trained on nor scored"):
        check_data(f"cityscapes:{city}", splits=("train", "test"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: shutil.rmtree(root / "leftImg8bit" / "val"), "leftImg8bit/val: folder does not exist"),
        (lambda root: shutil.rmtree(root / "gtFine" / "val"), "gtFine/val: folder does not exist"),
        (lambda root: gone(root / "gtFine", "*_labelIds.png"), "aachen_000000_000019_gtFine_labelIds.png (and 1 more)"),
        (
            lambda root: trees.write(root / "leftImg8bit" / "train" / "aachen" / "x.png", trees.noise(1)),
            "x.png: expected a name that ends with _leftImg8bit.png",
        ),
        (shutil.rmtree, "data folder does not exist"),
    ],
)
def test_what_is_missing_is_named(city, damage, message):
    damage(city)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        check_data(f"cityscapes:{city}")
    assert message in str(caught.value)


def test_values_outside_the_table(city):
    path = next((city / "gtFine" / "val").rglob("*labelIds.png"))
    trees.write(path, np.full((trees.HEIGHT, trees.WIDTH), 34, np.uint8))
    with pytest.raises(ValueError, match=r"labelIds\.png: label value 34 is outside the ids 0\.\.33"):
        check_data(f"cityscapes:{city}")
    with pytest.raises(ValueError, match="split 'all' of cityscapes: expected one of train, val, test"):
        open_data(f"cityscapes:{city}", "all")


def test_the_table_is_the_owners():
    labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    owners = sorted((label for label in labels if 0 <= label.trainId < 255), key=lambda label: label.trainId)
    assert [(label.name, label.id, label.color) for label in owners] == list(TABLE)
    for kind in ("labelIds", "labelTrainIds"):
        encoding = ENCODINGS[kind]
        for label in labels:
            value = label.id if kind == "labelIds" else label.trainId
            value = value % 256  # the licence plate, -1, where it is written at all
            expected = label.trainId if 0 <= label.trainId < 255 else 255
            assert encoding.decode(np.array([[value]], np.uint8))[0, 0] == expected, (kind, label.name)


def test_a_result_goes_to_the_server_and_back(city, tmp_path):
    dataset = open_data(f"cityscapes:{city}", "test")
    prediction = np.random.default_rng(0).integers(0, 19, (trees.HEIGHT, trees.WIDTH)).astype(np.uint8)
    out = tmp_path / "results"
    path = write_result(out, dataset[0].name, prediction)
    assert path == out / "berlin_000000_000019.png"
    with Image.open(path) as written:
        assert written.mode == "L"
    np.testing.assert_array_equal(ENCODINGS["labelIds"].decode(read_label(path)), prediction)
    assert set(np.unique(read_label(path))) == {number for _, number, _ in TABLE}
    write_result(out, dataset[0].name, prediction[::-1])
    np.testing.assert_array_equal(trees.train_ids(read_label(path)), prediction[::-1])
    assert [file.name for file in out.iterdir()] == [path.name]


def test_the_owners_script_finds_and_scores_the_result(city, tmp_path, monkeypatch):
    evaluation = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    sample = open_data(f"cityscapes:{city}", "val")[0]
    truth = str(city / "gtFine" / "val" / f"{sample.name}_gtFine_labelIds.png")
    prediction = np.where(sample.label == 255, 0, sample.label).astype(np.uint8)
    prediction[:4] = (prediction[:4] + 1) % 19
    path = write_result(tmp_path / "results", sample.name, prediction)
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(tmp_path / "results"))
    asked = vars(evaluation.args) | {"quiet": True, "JSONOutput": False, "evalInstLevelScore": False}
    arguments = evaluation.CArgs()
    arguments.__dict__ |= asked | {"predictionPath": None, "predictionWalk": None}
    assert evaluation.getPrediction(arguments, truth) == str(path)
    theirs = evaluation.evaluateImgLists([str(path)], [truth], arguments)["classScores"]
    for index, (name, _, _) in enumerate(TABLE):
        both = ((prediction == index) & (sample.label == index)).sum()
        either = (((prediction == index) | (sample.label == index)) & (sample.label != 255)).sum()
        assert both / either == pytest.approx(theirs[name]), name


def test_what_is_no_prediction_is_refused(tmp_path):
    with pytest.raises(ValueError, match="prediction holds the value 255: expected 0 to 18"):
        write_result(tmp_path, "a", np.full((2, 2), 255, np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_result_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    path = write_result(tmp_path, "a", np.zeros((2, 2), np.uint8))
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        write_result(tmp_path, "a", np.ones((2, 2), np.uint8))
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    assert path.read_bytes() == before


def test_names_of_camvid_as_cityscapes():
    assert cityscapes_name("0006R0_f00930") == "0006r0_000000_000930"


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"no CamVid in {CAMVID} (set UNEPT_SHARED_DATA to its parent)")
@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_camvid_as_cityscapes(tmp_path, kind):
    """Real photographs through the Cityscapes reader: pixels and classes are those of the folder reader."""
    counts = lay_out(tmp_path, splits=("train", "val", "test"), images=4, kind=kind)
    assert counts == {"train": 4, "val": 4, "test": 4}
    names = check_data(f"cityscapes:{tmp_path}", classes=19)
    for split in ("train", "val"):
        theirs = open_data(f"folder:{CAMVID}", split)
        ours = open_data(f"cityscapes:{tmp_path}", split)
        meant = {"pavement": "sidewalk", "tree": "vegetation", "sign_symbol": "traffic sign", "pedestrian": "person"}
        meant["bicyclist"] = "bicycle"
        table = np.array([names.index(meant.get(name, name)) for name in theirs.classes] + [255] * 245, np.uint8)
        by_name = {ours[index].name.split("/")[1]: ours[index] for index in range(4)}
        for index in range(4):
            sample = by_name[cityscapes_name(theirs[index].name)]
            np.testing.assert_array_equal(sample.image, theirs[index].image)
            np.testing.assert_array_equal(sample.label, table[theirs[index].label])
    assert not open_data(f"cityscapes:{tmp_path}", "test").labelled
