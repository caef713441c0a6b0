"""Folders of pictures and the ADE20K layout: what is read, how, and one clear line for what is wrong."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from locations import SHARED_DATA
from PIL import Image

from unept.data import check_data, open_data
from unept.data.image_dataset import read_image, read_label
from unept.data.sample import default_palette
from unept.data.scenes import SceneConfig
from unept.data.source import splits_of


def write(path, values, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def noise(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def values(height=12, width=16, classes=3):
    return (np.arange(height * width).reshape(height, width) % classes).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Two splits of two pictures, three classes."""
    root = tmp_path / "data"
    for split in ("train", "val"):
        for number in range(2):
            write(root / "images" / split / f"{number}.jpg", noise(seed=number))
            write(root / "labels" / split / f"{number}.png", values())
    (root / "meta.json").write_text(json.dumps({"name": "Toy", "classes": ["a", "b", "c"]}))
    return root


def refuse(folder, message, **options):
    """The check fails with one line that holds `message`; returns the line."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        check_data(f"folder:{folder}", **options)
    assert message in str(caught.value)
    return str(caught.value)


# --- a good folder ---


def test_folder(folder):
    dataset = open_data(f"folder:{folder}", "val")
    assert dataset.name == "Toy"
    assert dataset.classes == ("a", "b", "c")
    assert dataset.palette == default_palette(3)
    assert dataset.ignore == 255
    assert len(dataset) == 2
    sample = dataset[1]
    assert sample.name == "1"
    assert sample.image.shape == (12, 16, 3)
    np.testing.assert_array_equal(sample.label, values())
    assert check_data(f"folder:{folder}") == ("a", "b", "c")
    with pytest.raises(IndexError, match="picture 2"):
        dataset[2]


def test_relative_paths_start_at_the_working_directory(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert check_data("folder:data") == ("a", "b", "c")
    assert len(open_data("folder:data", "train")) == 2


def test_classes_without_meta(folder):
    (folder / "meta.json").unlink()
    assert check_data(f"folder:{folder}?classes=3") == ("class 0", "class 1", "class 2")
    refuse(folder, "number of classes unknown")
    with pytest.raises(ValueError, match=r"label value 2 is outside 0\.\.1"):
        check_data(f"folder:{folder}?classes=2")


def test_names_of_classes_in_any_script(folder):
    names = ["\u0645\u06cc\u200c\u0634\u0648\u062f", "traffic\u00a0light", "\u4fe1\u53f7\u3000\u6a5f"]
    (folder / "meta.json").write_text(json.dumps({"classes": names}))
    assert check_data(f"folder:{folder}") == tuple(names)


def test_meta_may_say_all(folder):
    meta = {"classes": 2, "palette": [[1, 2, 3], [4, 5, 6]], "ignore": 2}
    (folder / "meta.json").write_text(json.dumps(meta))
    dataset = open_data(f"folder:{folder}", "train")
    assert dataset.name == "data"
    assert dataset.palette == ((1, 2, 3), (4, 5, 6))
    expected = values()
    expected[expected == 2] = 255
    np.testing.assert_array_equal(dataset[0].label, expected)
    assert check_data(f"folder:{folder}?classes=2") == ("class 0", "class 1")


def test_flat_layout_with_lists(folder):
    for part, suffix in (("images", "jpg"), ("labels", "png")):
        for split in ("train", "val"):
            for number in range(2):
                (folder / part / split / f"{number}.{suffix}").rename(folder / part / f"{split}{number}.{suffix}")
            (folder / part / split).rmdir()
    (folder / "train.txt").write_text("train1\n\ntrain0.jpg\n")
    (folder / "val.txt").write_text("val0\n")
    assert [pair.name for pair in open_data(f"folder:{folder}", "train").pairs] == ["train1", "train0"]
    check_data(f"folder:{folder}")
    (folder / "val.txt").write_text("val0\nval7\n")
    refuse(folder, "val.txt, line 2: no image 'val7'")
    (folder / "val.txt").write_text("\n")
    refuse(folder, "names no image")
    (folder / "val.txt").unlink()
    refuse(folder, "split 'val' has neither a folder images/val/ nor a list val.txt")


def test_lists_may_lie_in_splits(folder):
    for part in ("images", "labels"):
        for path in [*(folder / part).glob("*/*")]:
            path.rename(folder / part / f"{path.parent.name}{path.name}")
        for split in ("train", "val"):
            (folder / part / split).rmdir()
    (folder / "splits").mkdir()
    (folder / "splits" / "train.txt").write_text("train1\ntrain0\n")
    (folder / "val.txt").write_text("val0\n")
    assert [pair.name for pair in open_data(f"folder:{folder}", "train").pairs] == ["train1", "train0"]
    assert splits_of(f"folder:{folder}") == ("train", "val")
    (folder / "splits" / "test.txt").write_text("val1\n")
    assert splits_of(f"folder:{folder}") == ("train", "val", "test")
    assert len(open_data(f"folder:{folder}", "test")) == 1
    (folder / "splits" / "val.txt").write_text("val1\n")
    refuse(folder, f"val.txt: a second list of split 'val' beside {folder / 'splits' / 'val.txt'}")


def test_names_that_are_not_utf8(folder):
    """In a list too, whose bytes are those of the names."""
    name = os.fsdecode(b"caf\xe9")
    for part, suffix in (("images", "jpg"), ("labels", "png")):
        for split in ("train", "val"):
            (folder / part / split / f"0.{suffix}").rename(folder / part / split / f"{name}.{suffix}")
    assert check_data(f"folder:{folder}") == ("a", "b", "c")
    assert [pair.name for pair in open_data(f"folder:{folder}", "train").pairs] == ["1", name]
    for part in ("images", "labels"):
        (folder / part / "train").rename(folder / part / "pictures")
    (folder / "train.txt").write_bytes(b"pictures/caf\xe9\npictures/1\n")
    assert [pair.name for pair in open_data(f"folder:{folder}", "train").pairs] == [f"pictures/{name}", "pictures/1"]


def test_what_is_no_file_is_named_and_never_opened(folder):
    """A named pipe among the pictures or the labels, and folders that are named as pictures."""
    for part, name, said in (
        ("images", "2.jpg", "a named pipe (FIFO), not a file"),
        ("labels", "2.png", "a named pipe (FIFO), not a file"),
        ("labels", "notes", "a named pipe (FIFO), not a file"),
    ):
        path = folder / part / "train" / name
        os.mkfifo(path)
        refuse(folder, f"{path}: {said}")
        path.unlink()
    link = folder / "images" / "train" / "2.jpg"
    link.symlink_to("/dev/null")
    refuse(folder, f"{link}: a link to a device; among pictures, only links to files are followed")
    link.unlink()
    link.mkdir()
    refuse(folder, f"{link}: a folder named as a picture")


def test_pictures_in_subfolders_are_paired_and_sorted(folder):
    write(folder / "images" / "train" / "berlin" / "0.png", noise())
    write(folder / "labels" / "train" / "berlin" / "0.png", values())
    write(folder / "labels" / "train" / "unused.png", values())
    (folder / "images" / "train" / ".DS_Store").write_bytes(b"x")
    (folder / "images" / "train" / "Thumbs.db").write_bytes(b"x")
    assert [pair.name for pair in open_data(f"folder:{folder}", "train").pairs] == ["0", "1", "berlin/0"]
    check_data(f"folder:{folder}")


# --- a bad one ---


def test_missing_and_empty_folders(folder, tmp_path):
    refuse(tmp_path / "nowhere", "nowhere: data folder does not exist")
    refuse(folder / "meta.json", "meta.json: data folder does not exist")
    (tmp_path / "empty").mkdir()
    refuse(tmp_path / "empty", "no folder images/")
    (tmp_path / "empty" / "images").mkdir()
    refuse(tmp_path / "empty", "no meta.json")
    for file in (folder / "images" / "val").iterdir():
        file.unlink()
    refuse(folder, "images/val: no images in it")


def test_a_missing_split_is_named(folder):
    refuse(folder, "split 'test'", splits=("train", "test"))


def test_an_image_without_label(folder):
    (folder / "labels" / "val" / "1.png").unlink()
    line = refuse(folder, "images/val/1.jpg: no label")
    assert "labels/val/1.png" in line
    (folder / "labels" / "val" / "0.png").unlink()
    refuse(folder, "(and 1 more)")
    (folder / "labels" / "val").rmdir()
    refuse(folder, "labels/val: folder does not exist")


def test_a_label_of_another_size(folder):
    path = write(folder / "labels" / "train" / "1.png", values(16, 12))
    assert str(path) in refuse(folder, "label of 12x16 pixels for an image of 16x12")
    with pytest.raises(ValueError, match="label of 12x16 pixels"):
        open_data(f"folder:{folder}", "train")[1]


def test_values_outside_the_classes(folder):
    wrong = values()
    wrong[3, 3] = 3
    path = write(folder / "labels" / "val" / "0.png", wrong)
    assert str(path) in refuse(folder, "label value 3 is outside 0..2 (ignore is 255)")
    wrong[3, 3] = 255
    write(folder / "labels" / "val" / "0.png", wrong)
    check_data(f"folder:{folder}")
    assert open_data(f"folder:{folder}", "val")[0].label[3, 3] == 255


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.9])
def test_truncated_images_are_named(folder, suffix, kept):
    """Cut at a share of the bytes; large enough that the header is intact at a tenth."""
    (folder / "images" / "train" / "1.jpg").unlink()
    path = write(folder / "images" / "train" / f"1.{suffix}", noise(64, 96))
    write(folder / "labels" / "train" / "1.png", values(64, 96))
    check_data(f"folder:{folder}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=f"1.{suffix}: truncated or damaged"):
        read_image(path)
    fresh = folder.rename(folder.with_name(f"fresh{kept}{suffix}"))
    assert f"1.{suffix}" in refuse(fresh, "truncated or damaged")


def test_truncated_labels_are_named(folder):
    path = folder / "labels" / "train" / "0.png"
    write(path, noise(40, 40)[..., 0] % 3)
    path.write_bytes(path.read_bytes()[:-200])
    refuse(folder, "labels/train/0.png: truncated or damaged")


def test_a_file_that_is_no_image(folder):
    (folder / "images" / "train" / "1.jpg").write_text("not a picture")
    refuse(folder, "images/train/1.jpg: not a picture: its content is of no known format")
    (folder / "images" / "train" / "1.jpg").unlink()
    (folder / "images" / "train" / "notes.txt").write_text("not a picture")
    refuse(folder, "images/train/notes.txt: not an image")


def test_two_images_of_one_name(folder):
    write(folder / "images" / "train" / "0.png", noise())
    refuse(folder, "a second image named '0'")


def test_two_labels_of_one_name(folder):
    write(folder / "labels" / "train" / "0.bmp", values())
    refuse(folder, "0.png: a second label named '0' beside 0.bmp")


def test_links_that_would_be_passed_over_are_named(folder, tmp_path):
    link = folder / "images" / "train" / "more"
    for target, what in ((tmp_path, "a folder"), (tmp_path / "nowhere.jpg", "nothing")):
        link.symlink_to(target)
        refuse(folder, f"images/train/more: a link to {what}")
        link.unlink()
    (folder / "images" / "train" / "2.jpg").symlink_to(folder / "images" / "train" / "1.jpg")
    (folder / "labels" / "train" / "2.png").symlink_to(folder / "labels" / "train" / "1.png")
    assert len(open_data(f"folder:{folder}", "train")) == 3


def test_a_limit_of_pixels_is_said_and_can_be_raised(folder, monkeypatch):
    """Pillow's own limit, which lies lower, does not matter."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 12 * 16 // 4)
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | {"max_pixels": 12 * 16 - 1}))
    said = refuse(
        folder, "images/train/0.jpg: 16x12 pixels, above the limit of 191; raise it by 'max_pixels' in meta.json"
    )
    assert "damaged" not in said
    (folder / "meta.json").write_text(json.dumps(meta | {"max_pixels": 12 * 16}))
    assert check_data(f"folder:{folder}") == ("a", "b", "c")
    for wrong in (0, True, "many"):
        (folder / "meta.json").write_text(json.dumps(meta | {"max_pixels": wrong}))
        refuse(folder, "expected a whole number of at least 1")


def test_a_picture_of_few_pixels_is_read(folder):
    write(folder / "images" / "train" / "0.jpg", noise(height=5, width=3))
    write(folder / "labels" / "train" / "0.png", values(height=5, width=3))
    check_data(f"folder:{folder}")


def test_text_files_that_are_no_text_are_named(folder):
    (folder / "meta.json").write_bytes(b"\xff\xfe")
    refuse(folder, "meta.json: not UTF-8 text")
    (folder / "meta.json").write_text('{"classes": 3}')
    (folder / "images" / "train").rename(folder / "images" / "pictures")
    (folder / "labels" / "train").rename(folder / "labels" / "pictures")
    (folder / "train.txt").write_text("pictures/0\npictures/0.jpg\n")
    refuse(folder, "train.txt, line 2: image 'pictures/0.jpg' is named a second time")


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "expected an object with a field 'classes'"),
        ('{"classes": "a"}', "neither a list of names nor a number"),
        ('{"classes": true}', "neither a list of names nor a number"),
        ('{"classes": 0}', "0 classes: expected 1 to 255"),
        ('{"classes": 300}', "300 classes: expected 1 to 255"),
        ('{"classes": -3}', "-3 classes: expected 1 to 255"),
        ('{"classes": 1000000000000}', "1000000000000 classes: expected 1 to 255"),
        ('{"classes": 3, "ignore": true}', "'ignore' is True"),
        ('{"classes": ["a", "b", "a"]}', "class name 'a' is given twice"),
        (
            '{"classes": ["a", "box\\t1", "c"]}',
            r"meta.json: class name 'box\t1': expected text without tabs, line ends",
        ),
        ('{"classes": ["a", "\\ud800", "c"]}', r"meta.json: class name '\ud800': expected text without"),
        ('{"classes": 3, "ignore": 256}', "'ignore' is 256"),
        ('{"classes": 3, "palette": [[0, 0, 0]]}', "'palette' is not a list of 3 colours"),
        ('{"classes": 1, "palette": [[0, 0, 256]]}', "'palette' is not a list of 1 colours"),
    ],
)
def test_malformed_meta(folder, meta, message):
    (folder / "meta.json").write_text(meta)
    refuse(folder, message)


def test_number_of_classes_against_the_model(folder):
    refuse(folder, "3 classes, but the model has 11", classes=11)
    check_data(f"folder:{folder}", classes=3)
    with pytest.raises(ValueError, match="7 classes, but the model has 150"):
        check_data("scenes", classes=150)
    with pytest.raises(ValueError, match=r"3 classes, but \?classes=4"):
        check_data(f"folder:{folder}?classes=4")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "expected scenes, scenes:v2, folder:PATH, ade20k:PATH, cityscapes:PATH or"),
        ("scene", "did you mean scenes?"),
        ("ade20", "did you mean ade20k?"),
        ("scenes:x", "scenes are generated and have no path"),
        ("folder:", "no path"),
        ("folder", "no path"),
        ("folder:x?classes=", "with 1 to 255 classes"),
        ("folder:x?classes=-1", "with 1 to 255 classes"),
        ("folder:x?classes=256", "with 1 to 255 classes"),
        ("ade20k:x?classes=3", "folder:PATH?classes=NUMBER"),
        (
            "/data/camvid",
            "expected scenes, scenes:v2, folder:PATH, ade20k:PATH, cityscapes:PATH or",
        ),
    ],
)
def test_malformed_specifications(spec, message):
    for use in (check_data, lambda spec: open_data(spec, "train")):
        with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
            use(spec)
        assert message in str(caught.value)


def test_a_path_alone_is_answered_with_the_form(folder):
    with pytest.raises(ValueError, match="did you mean folder:"):
        open_data(str(folder), "train")


def test_scenes_by_specification():
    config = SceneConfig(scene_val=3)
    assert len(open_data("scenes", "val", config)) == 3
    assert check_data("scenes:v1", config, classes=8)[7] == "emblem"
    assert check_data("scenes", config, classes=7)[6] == "sign"


def test_what_passed_is_not_read_again(folder, monkeypatch):
    from unept.data.image_dataset import Pictures

    read = []
    real = Pictures.check
    monkeypatch.setattr(Pictures, "check", lambda self, index: read.append(index) or real(self, index))
    check_data(f"folder:{folder}")
    assert len(read) == 4
    check_data(f"folder:{folder}")
    assert len(read) == 4


def test_a_failed_check_is_made_again(folder):
    path = folder / "labels" / "val" / "0.png"
    write(path, values() + 1)
    refuse(folder, "label value 3")
    write(path, values())
    check_data(f"folder:{folder}")


def test_the_first_bad_file_is_named_whatever_the_threads_do(folder):
    for number in range(2, 30):
        write(folder / "images" / "train" / f"{number:03d}.jpg", noise())
        write(folder / "labels" / "train" / f"{number:03d}.png", values(classes=4 if number > 10 else 3))
    for _ in range(3):
        refuse(folder, "labels/train/011.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(folder):
    path = folder / "images" / "train" / "0.jpg"
    path.chmod(0)
    refuse(folder, "images/train/0.jpg: no permission")
    path.chmod(0o644)
    labels = folder / "labels" / "train"
    labels.chmod(0)
    try:
        refuse(folder, "labels/train: no permission")
    finally:
        labels.chmod(0o755)


# --- kinds of pictures ---


def test_grey_palette_alpha_and_cmyk_become_rgb(tmp_path):
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5
    np.testing.assert_array_equal(read_image(write(tmp_path / "l.png", grey)), grey[..., None].repeat(3, -1))
    colour = noise(6, 8)
    alpha = np.concatenate([colour, np.zeros((6, 8, 1), np.uint8)], -1)
    np.testing.assert_array_equal(read_image(write(tmp_path / "rgba.png", alpha)), colour)
    both = np.stack([grey, grey], -1)
    np.testing.assert_array_equal(read_image(write(tmp_path / "la.png", both)), grey[..., None].repeat(3, -1))

    indexed = Image.fromarray(values(6, 8))
    indexed.putpalette([9, 8, 7, 60, 50, 40, 200, 210, 220])
    for name, options in (("p.png", {}), ("pt.png", {"transparency": b"\x00\x80\xff"})):
        indexed.save(tmp_path / name, **options)
        made = read_image(tmp_path / name)
        np.testing.assert_array_equal(made, np.array([[9, 8, 7], [60, 50, 40], [200, 210, 220]])[values(6, 8)])
    Image.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert read_image(tmp_path / "cmyk.jpg").shape == (6, 8, 3)
    assert read_image(write(tmp_path / "bit.png", grey > 100)).max() == 255


def test_sixteen_bit_pictures_are_refused(tmp_path):
    path = write(tmp_path / "deep.png", np.full((4, 4), 3000, np.uint16))
    with pytest.raises(ValueError, match=r"deep\.png: image of mode I;16 with 16 bits a channel: expected 8 bits"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(folder, orientation):
    """The upright picture is 16 wide; stored as orientation 5 to 8 its sides are swapped in the file."""
    upright = np.zeros((12, 16, 3), np.uint8)
    upright[:4, :4] = (250, 0, 0)
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = folder / "images" / "train" / "0.jpg"
    write(path, np.ascontiguousarray(turns[orientation](upright)), exif=exif, quality=95)
    made = open_data(f"folder:{folder}", "train")[0].image
    assert made.shape == (12, 16, 3)
    assert made[1, 1, 0] > 200
    assert made[-2, -2, 0] < 50
    assert made[1, -2, 0] < 50
    check_data(f"folder:{folder}")


def test_labels_are_read_as_indices(tmp_path):
    indexed = Image.fromarray(values())
    indexed.putpalette([200, 1, 1, 7, 7, 7, 90, 0, 1])
    indexed.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_label(tmp_path / "p.png"), values())
    np.testing.assert_array_equal(read_label(write(tmp_path / "b.png", values(classes=2) > 0)), values(classes=2))
    deep = write(tmp_path / "deep.png", values().astype(np.uint16))
    np.testing.assert_array_equal(read_label(deep), values())
    assert read_label(deep).dtype == np.uint8


def test_labels_that_hold_no_class_numbers(tmp_path):
    with pytest.raises(ValueError, match=r"rgb\.png: label of mode RGB: expected one whole number a pixel"):
        read_label(write(tmp_path / "rgb.png", noise()))
    with pytest.raises(ValueError, match="label values 0 to 300: expected 0 to 255"):
        read_label(write(tmp_path / "deep.png", np.array([[0, 300]], np.uint16)))
    with pytest.raises(ValueError, match=r"gone\.png: file does not exist"):
        read_label(tmp_path / "gone.png")


def test_a_broken_stream_inside_a_png(tmp_path):
    path = write(tmp_path / "x.png", noise(64, 64))
    content = bytearray(path.read_bytes())
    content[200:260] = b"\xff" * 60
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"x\.png: truncated or damaged PNG \([^\n]+\)$"):
        read_image(path)


# --- ADE20K ---


@pytest.fixture
def ade(tmp_path):
    root = tmp_path / "ADEChallengeData2016"
    for part in ("training", "validation"):
        write(root / "images" / part / "ADE_00000001.jpg", noise())
        write(root / "annotations" / part / "ADE_00000001.png", np.arange(192, dtype=np.uint8).reshape(12, 16) % 151)
    return root


def test_ade20k(ade):
    for split in ("train", "val"):
        dataset = open_data(f"ade20k:{ade}", split)
        assert len(dataset.classes) == len(set(dataset.palette)) == 150
        label = dataset[0].label
        assert label[0, 0] == 255  # 0: unlabelled
        assert label[0, 1] == 0
        assert label.ravel()[150] == 149
    assert len(check_data(f"ade20k:{ade}", classes=150)) == 150


@pytest.mark.parametrize("value", [151, 255])
def test_ade20k_values_outside(ade, value):
    label = np.full((12, 16), 150, np.uint8)
    label[0, 0] = value
    write(ade / "annotations" / "validation" / "ADE_00000001.png", label)
    with pytest.raises(ValueError, match=rf"label value {value} is outside 1\.\.150 \(ignore is 0\)"):
        check_data(f"ade20k:{ade}")


def test_ade20k_what_is_missing(ade, tmp_path):
    with pytest.raises(ValueError, match="split 'test' of ade20k"):
        open_data(f"ade20k:{ade}", "test")
    with pytest.raises(ValueError, match="data folder does not exist"):
        check_data(f"ade20k:{tmp_path / 'x'}")
    (ade / "annotations" / "validation" / "ADE_00000001.png").unlink()
    with pytest.raises(ValueError, match=r"ADE_00000001\.jpg: no label"):
        check_data(f"ade20k:{ade}")


def test_default_palette_is_distinct():
    colours = default_palette(255)
    assert len(set(colours)) == 255
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)


# --- the real thing ---

SHARED = SHARED_DATA
CAMVID = SHARED / "camvid11"


@pytest.mark.skipif(not CAMVID.is_dir(), reason=f"no CamVid in {CAMVID} (set UNEPT_SHARED_DATA to its parent)")
def test_camvid_as_it_is():
    names = check_data(f"folder:{CAMVID}", splits=("train", "val", "test"), classes=11)
    assert names[0] == "sky"
    assert names[10] == "bicyclist"
    for split, count in (("train", 367), ("val", 101), ("test", 233)):
        assert len(open_data(f"folder:{CAMVID}", split)) == count
    val = open_data(f"folder:{CAMVID}", "val")
    assert val.palette[0] == (128, 128, 128)
    counts = np.zeros(256)
    for index in range(0, len(val), 10):
        sample = val[index]
        assert sample.image.shape == (360, 480, 3)
        counts += np.bincount(sample.label.ravel(), minlength=256)
    assert (counts[11:255] == 0).all()
    assert 0.05 < counts[0] / counts.sum() < 0.14  # sky: .092 of the whole split


def test_pictures_are_not_kept_open(folder):
    """A data set with more pictures than a process may have files open can be read."""
    dataset = open_data(f"folder:{folder}", "train")
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    for _ in range(20):
        dataset[0]
    after = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").is_dir() else 0
    assert after <= before


def test_draft_decoding_reads_to_the_end(tmp_path):
    """The coarse check of a JPEG finds what a full decode finds, however late the cut."""
    buffer = io.BytesIO()
    Image.fromarray(noise(200, 200)).save(buffer, "JPEG")
    from unept.data.image_dataset import check_image

    path = tmp_path / "x.jpg"
    for kept in (0.2, 0.5, 0.97):
        path.write_bytes(buffer.getvalue()[: int(len(buffer.getvalue()) * kept)])
        with pytest.raises(ValueError, match="truncated"):
            check_image(path)
    path.write_bytes(buffer.getvalue())
    assert check_image(path) == (200, 200)
