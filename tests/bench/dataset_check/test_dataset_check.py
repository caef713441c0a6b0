"""The check of a data set: silent about good trees in every layout; each known-wrong tree is told, with its mending."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trees
from camvid_as_cityscapes import CAMVID, lay_out
from PIL import Image

from bench.dataset_check import DatasetCheck, check_dataset
from unept.data import ade20k, cityscapes, pascal_context
from unept.data.image_dataset import Official, read_label
from unept.data.png_chunks import broken_chunk


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets whose owners have two small pictures in each split."""
    for official in (ade20k.OFFICIAL, cityscapes.OFFICIAL, pascal_context.OFFICIAL):
        for split in official:
            void = official[split].void
            size = (trees.WIDTH, trees.HEIGHT) if official[split].size else None
            monkeypatch.setitem(official, split, Official(pictures=2, size=size, void=void))


def told(found: DatasetCheck, *, wrong: bool = True) -> list[tuple[str, str]]:
    return [(finding.check, finding.split) for finding in found.findings if finding.wrong == wrong]


def only(found: DatasetCheck, check: str, split: str, *, said: str, fix: str) -> None:
    """Nothing is wrong but this, in words that hold `said` and `fix`."""
    assert told(found) == [(check, split)], [finding.what for finding in found.findings]
    finding = next(finding for finding in found.findings if finding.wrong)
    assert said in finding.what
    assert fix in finding.fix
    assert "\n" not in finding.what + finding.fix


def write(path: Path, values: Any) -> Path:
    return trees.write(path, np.asarray(values, np.uint8))


def relabel(folder: Path, change: Any, pattern: str = "*.png") -> None:
    """Replace each label below a folder by what `change` makes of its values."""
    for path in sorted(folder.rglob(pattern)):
        write(path, change(read_label(path).astype(np.int64)))


# --- good trees ---


def test_the_official_numbers() -> None:
    assert {split: each.pictures for split, each in ade20k.OFFICIAL.items()} == {"train": 20210, "val": 2000}
    assert {split: each.pictures for split, each in pascal_context.OFFICIAL.items()} == {"train": 4998, "val": 5105}
    counts = {split: (each.pictures, each.size) for split, each in cityscapes.OFFICIAL.items()}
    assert counts == {"train": (2975, (2048, 1024)), "val": (500, (2048, 1024)), "test": (1525, (2048, 1024))}


@pytest.mark.parametrize(
    ("kind", "make", "splits"),
    [
        ("folder", trees.folder, 2),
        ("ade20k", trees.ade20k, 2),
        ("cityscapes", trees.cityscapes, 3),
        ("cityscapes", lambda root: trees.cityscapes(root, kind="labelTrainIds"), 3),
        ("pascal_context", trees.pascal_png, 2),
        ("pascal_context", trees.pascal_mat, 2),
    ],
)
def test_nothing_is_wrong_with_a_good_tree(tmp_path: Path, owners: None, kind: str, make: Any, splits: int) -> None:
    root = make(tmp_path / "data")
    found = check_dataset(f"{kind}:{root}")
    assert found.findings == ()
    assert not found.wrong
    assert len(found.splits) == splits
    assert check_dataset(str(root), jobs=1) == found, "the layout is seen, and order does not depend on threads"
    for split in found.splits:
        assert (split["pictures"], split["read"]) == (2, 2)
        assert (split["width_min"], split["height_max"]) == (trees.WIDTH, trees.HEIGHT)


def test_what_is_counted(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    write(root / "labels" / "val" / "0.png", np.full((trees.HEIGHT, trees.WIDTH), 2))
    seen: list[tuple[int, int]] = []
    found = check_dataset(f"folder:{root}", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    side = trees.HEIGHT * trees.WIDTH
    train, val = found.splits
    assert (train["unlabelled"], val["unlabelled"]) == (0.25, 0.125)
    assert (val["value_min"], val["value_max"], val["classes_seen"]) == (0, 255, 3)
    by_name = {line["name"]: line for line in found.classes if line["split"] == "val"}
    assert by_name["c2"]["pixels"] == side + side // 4
    assert by_name["c2"]["pictures"] == 2
    assert by_name["c0"]["pictures"] == 1
    assert sum(line["share"] for line in by_name.values()) == pytest.approx(1)


# --- counts, pairs, files ---


def test_the_number_of_pictures(tmp_path: Path) -> None:
    found = check_dataset(f"ade20k:{trees.ade20k(tmp_path)}")
    assert told(found) == [("count", "train"), ("count", "val")]
    assert found.findings[0].what == "2 pictures, but the owners' split has 20,210"
    assert "download" in found.findings[0].fix


def test_a_picture_too_many(tmp_path: Path, owners: None) -> None:
    root = trees.ade20k(tmp_path, images=3)
    found = check_dataset(f"ade20k:{root}")
    assert told(found) == [("count", "train"), ("count", "val")]
    assert "take out" in found.findings[0].fix


def test_missing_halves(tmp_path: Path, owners: None) -> None:
    root = trees.ade20k(tmp_path)
    (root / "annotations" / "training" / "ADE_train_00000002.png").unlink()
    only(check_dataset(str(root)), "pair", "train", said="ADE_train_00000002.jpg: no label ", fix="extract")
    write(root / "annotations" / "training" / "ADE_train_00000007.png", [[1]])
    found = check_dataset(str(root))
    assert told(found, wrong=False) == [("pair", "train")]
    assert "1 label without picture" in found.findings[-1].what


def test_a_label_saved_as_jpeg(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    path = root / "labels" / "val" / "1.png"
    Image.open(path).convert("L").save(path.with_suffix(".jpg"))
    path.unlink()
    only(
        check_dataset(str(root)), "pair", "val", said="1.jpg: no label", fix="lost its values: export it again, as PNG"
    )


def test_a_list_that_names_what_is_not_there(tmp_path: Path, owners: None) -> None:
    root = trees.pascal_mat(tmp_path)
    (root / "JPEGImages" / "2010_000001.jpg").unlink()
    found = check_dataset(str(root))
    assert told(found) == [("count", "val"), ("pair", "val")]
    assert "val.txt, line 2: no image" in found.findings[1].what


@pytest.mark.parametrize("place", ["images/val/1.jpg", "labels/val/1.png"])
@pytest.mark.parametrize("kept", [0, 60, -30])
def test_truncated_files(tmp_path: Path, place: str, kept: int) -> None:
    path = trees.folder(tmp_path) / place
    path.write_bytes(path.read_bytes()[:kept])
    only(
        check_dataset(str(tmp_path)), "damaged", "val", said=f"{path}: truncated", fix="download or extract them again"
    )


def test_a_broken_checksum_that_decodes_all_the_same(tmp_path: Path, owners: None) -> None:
    """The pixels' chunk is whole as zlib sees it; its stored checksum is not its own."""
    root = trees.cityscapes(tmp_path)
    for path in (
        root / "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png",
        root / "gtFine/val/frankfurt/frankfurt_000001_000019_gtFine_labelIds.png",
    ):
        content = bytearray(path.read_bytes())
        place = content.index(b"IDAT")
        length = int.from_bytes(content[place - 4 : place], "big")
        content[place + 4 + length] ^= 255
        assert broken_chunk(path.read_bytes()) is None
        assert broken_chunk(bytes(content)) == "IDAT"
        path.write_bytes(bytes(content))
    found = check_dataset(str(root))
    assert told(found) == [("damaged", "train"), ("damaged", "val")]
    assert "leftImg8bit.png: truncated or damaged: the checksum of its chunk IDAT is wrong" in found.findings[0].what


def test_files_of_the_wrong_sort(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    trees.write(root / "labels" / "train" / "0.png", trees.noise(0))
    only(
        check_dataset(str(root)),
        "label",
        "train",
        said="0.png: label of mode RGB",
        fix="colours have to be turned back",
    )
    trees.folder(tmp_path)
    (root / "images" / "train" / "0.jpg").unlink()
    trees.write(root / "images" / "train" / "0.png", np.full((trees.HEIGHT, trees.WIDTH), 3000, np.uint16))
    only(check_dataset(str(root)), "image", "train", said="0.png: image of mode I;16", fix="8 bits")


def test_each_remedy_has_its_own_line(tmp_path: Path) -> None:
    """Labels that are JPEGs by their content, and a label in colours."""
    root = trees.folder(tmp_path, images=3)
    for number in (0, 1):
        path = root / "labels" / "train" / f"{number}.png"
        Image.fromarray(read_label(path)).save(path, "JPEG")
    trees.write(root / "labels" / "train" / "2.png", trees.noise(0))
    found = check_dataset(str(root))
    assert told(found) == [("label", "train"), ("label", "train")]
    assert [(len(each.files), each.fix.split()[0]) for each in found.findings if each.wrong] == [
        (2, "export"),
        (1, "write"),
    ]
    assert "0.png: label saved as JPEG, by its content, has lost its values (and 1 more)" in found.findings[0].what


def test_damage_is_said_of_damage_alone(tmp_path: Path) -> None:
    """A file that is gone or no picture is whole: to download it again would change nothing."""
    root = trees.folder(tmp_path)
    (root / "images" / "train" / "0.jpg").write_text("<html>404</html>")
    only(check_dataset(str(root)), "image", "train", said="its content is a web page", fix="put a JPEG, PNG")
    (root / "images" / "train" / "0.jpg").write_bytes(b"")
    only(check_dataset(str(root)), "damaged", "train", said="1 file truncated or damaged: ", fix="download")


def test_a_label_map_of_matlab_7_3(tmp_path: Path, owners: None) -> None:
    path = trees.pascal_mat(tmp_path) / "trainval" / "2008_000001.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(384) + b"\x89HDF\r\n\x1a\n" + bytes(99))
    only(
        check_dataset(str(tmp_path)),
        "label",
        "train",
        said="a MATLAB file of version 7.3 (HDF5)",
        fix="trainval.tar.gz",
    )


def test_a_damaged_label_map(tmp_path: Path, owners: None) -> None:
    path = trees.pascal_mat(tmp_path) / "trainval" / "2008_000001.mat"
    path.write_bytes(path.read_bytes()[:-9])
    only(check_dataset(str(tmp_path)), "damaged", "train", said="2008_000001.mat: truncated", fix="extract")


def test_a_split_that_cannot_be_opened(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    (root / "images" / "val" / "notes.txt").write_text("x")
    found = check_dataset(str(root))
    only(found, "split", "val", said="notes.txt: not an image", fix="mend what this names")
    assert [split["split"] for split in found.splits] == ["train"]


# --- sizes ---


def test_sizes(tmp_path: Path, owners: None) -> None:
    root = trees.cityscapes(tmp_path)
    name = "aachen_000000_000019"
    trees.write(root / f"leftImg8bit/train/aachen/{name}_leftImg8bit.png", trees.noise(0, 8, 12))
    found = check_dataset(str(root))
    assert told(found) == [("size", "train"), ("size", "train")]
    assert f"{name}_gtFine_labelIds.png: 24x16 for 12x8" in found.findings[0].what
    assert "by nearest value" in found.findings[0].fix
    assert "of another size than the owners' 24x16" in found.findings[1].what


def test_a_label_that_is_turned(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    relabel(root / "labels" / "val", lambda values: values.T, "1.png")
    only(check_dataset(str(root)), "size", "val", said="1.png: 16x24 for 24x16", fix="EXIF orientation")


# --- values ---


def test_counted_from_one(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    relabel(root / "labels", lambda values: np.where(values == 255, 255, values + 1))
    found = check_dataset(str(root))
    assert told(found) == [("value", "train"), ("value", "val")]
    assert "labels run from 1 to 3, one above 0 to 2: they are counted from 1, in 2 labels" in found.findings[0].what
    assert "take 1 off" in found.findings[0].fix
    assert len(found.findings[0].files) == 2


def test_unlabelled_as_class_0(tmp_path: Path) -> None:
    """Classes 1 to 3 and 0 for unlabelled: what `reduce_zero_label` is for."""
    root = trees.folder(tmp_path)
    relabel(root / "labels", lambda values: np.where(values == 255, 0, values + 1))
    found = check_dataset(str(root))
    assert told(found) == [("value", "train"), ("value", "val")]
    assert "labels hold 0 to 3, one value more than the 3 classes" in found.findings[0].what
    assert (
        "if 0 means unlabelled, write 255 for it first and then take 1 off the values 1 to 3" in found.findings[0].fix
    )


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("cityscapes", lambda values: np.where(values == 33, 34, values), "labels hold 34, outside the ids 0..33"),
        ("pascal_mat", lambda values: np.where(values == 459, 460, values), "labels hold 460, outside 0..459"),
        ("ade20k", lambda values: np.where(values == 7, 151, values), "labels hold 1 to 151, one value more"),
    ],
)
def test_no_advice_spoils_the_owners_labels(tmp_path: Path, owners: None, kind: str, change: Any, said: str) -> None:
    """Their numbers have gaps or stand for other things; to shift them would spoil every label."""
    if kind == "pascal_mat":
        root = trees.pascal_mat(tmp_path)
        for path in (root / "trainval").glob("2010*.mat"):
            trees.label_map(path, change(trees.values(*pascal_context.NUMBERS.values(), 1, 431, 459)))
    elif kind == "cityscapes":
        root = trees.cityscapes(tmp_path)
        relabel(root / "gtFine" / "val", change, "*_labelIds.png")
    else:
        root = trees.ade20k(tmp_path)
        relabel(root / "annotations" / "validation", change)
    finding = next(
        each
        for each in check_dataset(f"{kind.split('_mat')[0]}{'_context' * (kind == 'pascal_mat')}:{root}").findings
        if each.check == "value"
    )
    assert said in finding.what
    assert finding.fix == "extract the owners' labels again" + ", or write 0 for what is not to be scored" * (
        kind != "pascal_mat"
    )


def test_a_single_high_value_is_not_taken_for_counting_from_one(tmp_path: Path) -> None:
    """Class 0 is absent, and so are others: one more class may be missing just as well."""
    root = trees.folder(tmp_path, classes=4)
    for path in (root / "labels" / "val").iterdir():
        write(path, np.resize([2, 4, 255], (trees.HEIGHT, trees.WIDTH)))
    finding = next(each for each in check_dataset(str(root)).findings if each.wrong)
    assert finding.what.startswith("labels hold 4, one above 0 to 3, and no 0, in 2 labels")
    assert finding.fix.startswith("if they are counted from 1, take 1 off")


def test_255_is_neither_class_nor_unlabelled(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    (root / "meta.json").write_text('{"classes": 3, "ignore": 3}')
    found = check_dataset(str(root))
    assert told(found) == [("value", "train"), ("value", "val")]
    assert "labels hold 255 in 25.00% of the pixels, which is no class, and unlabelled is 3" in found.findings[0].what
    assert "'ignore' of meta.json" in found.findings[0].fix


def test_255_as_a_class(tmp_path: Path) -> None:
    root = trees.folder(tmp_path, classes=2)
    relabel(root / "labels", lambda values: np.where(values % 2 == 1, 255, 0))
    found = check_dataset(str(root))
    assert told(found) == [("void", "train"), ("void", "val")]
    assert "255 is unlabelled: class 1 ('c1') is never there" in found.findings[0].what
    assert "write 1 for 255" in found.findings[0].fix


def test_0_as_unlabelled_and_as_a_class(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    (root / "meta.json").write_text('{"classes": ["sky", "road", "car"], "ignore": 0}')
    relabel(root / "labels", lambda values: np.where(values == 255, 0, values))
    found = check_dataset(str(root))
    assert told(found) == [("void", "train"), ("void", "val")]
    assert "unlabelled is 0, which is also class 0 ('sky'): that class is never scored" in found.findings[0].what


def test_a_class_that_is_called_void(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    (root / "meta.json").write_text('{"classes": ["Void", "road", "car"]}')
    relabel(root / "labels", lambda values: np.where(values == 255, 0, values))
    found = check_dataset(str(root))
    assert told(found) == [("void", "train"), ("void", "val")]
    assert "class 0 is called 'Void' and no pixel is 255: it is scored as a class" in found.findings[0].what


def test_interpolated_labels(tmp_path: Path) -> None:
    root = trees.folder(tmp_path, classes=4)
    blurred = np.zeros((trees.HEIGHT, trees.WIDTH))
    blurred[0, :12] = range(20, 32)
    write(root / "labels" / "train" / "0.png", blurred)
    only(
        check_dataset(str(root)),
        "value",
        "train",
        said="12 strange values (20, 21, 22, 23, 24, 25 and 6 more)",
        fix="nearest",
    )


def test_other_values(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    write(root / "labels" / "train" / "0.png", np.full((trees.HEIGHT, trees.WIDTH), 7))
    only(
        check_dataset(str(root)),
        "value",
        "train",
        said="labels hold 7, outside 0..2 (ignore is 255), in 50.00% of the pixels, in 1 label, first ",
        fix="write 255 for what is not to be scored",
    )


def reduced(values: Any) -> Any:
    return np.where(values == 0, 255, values - 1)


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("ade20k", reduced, "1 has been taken off the labels already"),
        ("ade20k", lambda values: np.maximum(values - 1, 0), "counted from 0"),
        ("ade20k", lambda values: np.where(values == 0, 255, values), "labels hold 255 in"),
        ("pascal_png", reduced, "1 has been taken off the labels: 255 for background"),
        ("pascal_png", lambda values: np.where(values > 20, 255, values), "VOC's own labels of 20 classes"),
        ("pascal_png", lambda values: values + 1, "labels run from 1 to 60"),
        ("labelIds", trees.train_ids, "these files named labelIds hold train ids"),
        ("labelTrainIds", lambda values: np.where(values == 255, 19, values), "void has the value 19"),
        ("labelTrainIds", lambda values: np.where(values == 255, 33, values + 7), "hold ids, up to 33"),
    ],
)
def test_another_version_of_the_owners_labels(tmp_path: Path, owners: None, kind: str, change: Any, said: str) -> None:
    if kind in ("labelIds", "labelTrainIds"):
        root = trees.cityscapes(tmp_path, kind=kind)
        folder, pattern = root / "gtFine" / "val", f"*_{kind}.png"
    else:
        root = trees.pascal_png(tmp_path) if kind == "pascal_png" else trees.ade20k(tmp_path)
        folder, pattern = root / ("annotations/validation" if kind == "ade20k" else "SegmentationClassContext"), "*.png"
    relabel(folder, change, pattern)
    found = check_dataset(str(root))
    first = next(finding for finding in found.findings if finding.check == "value")
    assert said in first.what, first.what
    assert first.fix
    assert first.wrong
    assert {check for check, _ in told(found)} <= {"value", "void"}


def test_label_maps_of_59_classes(tmp_path: Path, owners: None) -> None:
    root = trees.pascal_mat(tmp_path)
    for path in (root / "trainval").glob("2010*.mat"):
        trees.label_map(path, trees.values(*range(60)))
    found = check_dataset(str(root))
    only(found, "value", "val", said="no category above 59", fix="trainval.tar.gz")


@pytest.mark.parametrize("kind", ["ade20k", "cityscapes"])
def test_no_void_where_there_must_be_some(tmp_path: Path, owners: None, kind: str) -> None:
    if kind == "ade20k":
        root = trees.ade20k(tmp_path)
        relabel(root / "annotations" / "training", lambda values: np.maximum(values, 1))
    else:
        root = trees.cityscapes(tmp_path, kind="labelTrainIds")
        relabel(root / "gtFine" / "train", lambda values: values % 18, "*labelTrainIds.png")
    found = check_dataset(str(root))
    only(found, "void", "train", said="not one pixel is unlabelled", fix="extract the owners' labels again")


def test_remarks(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    write(root / "labels" / "val" / "0.png", np.full((trees.HEIGHT, trees.WIDTH), 255))
    write(root / "labels" / "val" / "1.png", np.full((trees.HEIGHT, trees.WIDTH), 1))
    found = check_dataset(str(root))
    assert not found.wrong
    assert [finding.what for finding in found.findings] == [
        f"1 label in which every pixel is unlabelled: {root / 'labels/val/0.png'}",
        "2 of 3 classes have no pixel: c0, c2",
    ]


# --- duplicates ---


def test_duplicates_in_a_split_and_across(tmp_path: Path) -> None:
    root = trees.folder(tmp_path)
    shutil.copy(root / "images" / "train" / "0.jpg", root / "images" / "train" / "1.jpg")
    only(
        check_dataset(str(root)), "duplicate", "train", said="1 picture there more than once: ", fix="keep one of each"
    )
    write(root / "labels" / "train" / "1.png", trees.values(2, 1, 0))
    found = check_dataset(str(root))
    only(found, "duplicate", "train", said="1 picture there more than once, 1 time with labels that differ", fix="keep")
    shutil.copy(root / "images" / "train" / "0.jpg", root / "images" / "val" / "1.jpg")
    found = check_dataset(str(root))
    assert told(found) == [("duplicate", "train"), ("duplicate", "train, val")]
    assert "1 picture in both splits: " in found.findings[1].what
    assert "must not be scored" in found.findings[1].fix


def test_duplicates_that_the_owners_distribute_are_remarks(tmp_path: Path, owners: None) -> None:
    root = trees.ade20k(tmp_path)
    images = root / "images"
    shutil.copy(images / "training" / "ADE_train_00000001.jpg", images / "training" / "ADE_train_00000002.jpg")
    shutil.copy(images / "training" / "ADE_train_00000001.jpg", images / "validation" / "ADE_val_00000002.jpg")
    found = check_dataset(str(root))
    assert not found.wrong
    assert told(found, wrong=False) == [("duplicate", "train"), ("duplicate", "train, val")]


# --- what is asked for ---


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scenes", "there are no files to read"),
        ("nowhere", "data 'nowhere': expected scenes, scenes:v2, folder:PATH"),
        ("ade20k:nowhere", "nowhere: data folder does not exist"),
        ("ade20k:", "no path"),
        ("", "data '': expected scenes"),
        (".", "of no known layout: expected annotations/ (ade20k), leftImg8bit/ (cityscapes)"),
        ("folder:.", "no folder images/ in it"),
    ],
)
def test_what_cannot_be_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        check_dataset(spec)
    assert message in str(caught.value)


def test_an_interruption_ends_it(tmp_path: Path) -> None:
    root = trees.folder(tmp_path, images=8)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_dataset(str(root), progress=stop)


def test_a_record_is_plain(tmp_path: Path) -> None:
    record = check_dataset(str(trees.ade20k(tmp_path))).record()
    assert json.loads(json.dumps(record)) == record


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"no CamVid in {CAMVID} (set UNEPT_SHARED_DATA to its parent)")
def test_camvid_as_cityscapes(tmp_path: Path) -> None:
    """Real photographs: nothing is wrong but that they are fewer and smaller than the owners'."""
    lay_out(tmp_path, images=6)
    found = check_dataset(str(tmp_path))
    assert found.spec == f"cityscapes:{tmp_path}"
    assert told(found) == [("count", "train"), ("size", "train"), ("count", "val"), ("size", "val")]
    seen = {line["name"] for line in found.classes if line["pixels"]}
    assert {"road", "sky", "building", "vegetation"} <= seen
    assert not seen & {"wall", "rider", "train", "motorcycle"}
