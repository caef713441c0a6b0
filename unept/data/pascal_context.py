"""PASCAL-Context: the pictures of PASCAL VOC 2010 with 59 classes and background.

`PATH` is the folder that holds VOC's `JPEGImages`. Labels are the owners' `trainval/NAME.mat`, whose `LabelMap` holds
459 categories, or `SegmentationClassContext/NAME.png` with 0 for background and 1 to 59 for the classes in the order
of their names, as OpenMMLab's converter writes them; the PNGs where there are any. The other 400 categories of a
`LabelMap`, and its 0, are background. Splits are the lists `ImageSets/SegmentationContext/{train,val}.txt`, or, where
that folder is missing, VOC 2010's own `ImageSets/Main/{train,val}.txt`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from unept.data.folder import read_names, read_text
from unept.data.image_dataset import Files, Official, Pair, Pictures, Unpaired
from unept.data.image_file import Damaged, Refused
from unept.data.label_encoding import Encoding, Mistake, shifted
from unept.data.load_label import read_label
from unept.data.mat_file import read_matrix
from unept.data.sample import IGNORE, default_palette
from unept.utils.paths import quoted_path

LABEL_MAP = "LabelMap"
CATEGORIES = 459
OFFICIAL = {"train": Official(pictures=4_998), "val": Official(pictures=5_105)}
# The 59 classes in the order of their names, which is that of their numbers among the owners' 459 categories.
NUMBERS = {
    "aeroplane": 2, "bag": 9, "bed": 18, "bedclothes": 19, "bench": 22, "bicycle": 23, "bird": 25, "boat": 31,
    "book": 33, "bottle": 34, "building": 44, "bus": 45, "cabinet": 46, "car": 59, "cat": 65, "ceiling": 68,
    "chair": 72, "cloth": 80, "computer": 85, "cow": 98, "cup": 104, "curtain": 105, "dog": 113, "door": 115,
    "fence": 144, "floor": 158, "flower": 159, "food": 162, "grass": 187, "ground": 189, "horse": 207,
    "keyboard": 220, "light": 232, "motorbike": 258, "mountain": 259, "mouse": 260, "person": 284, "plate": 295,
    "platform": 296, "pottedplant": 308, "road": 324, "rock": 326, "sheep": 347, "shelves": 349, "sidewalk": 354,
    "sign": 355, "sky": 360, "snow": 366, "sofa": 368, "table": 397, "track": 415, "train": 416, "tree": 420,
    "truck": 424, "tvmonitor": 427, "wall": 440, "water": 445, "window": 454, "wood": 458,
}  # fmt: skip
CLASSES = ("background", *NUMBERS)
_VOC = 20  # classes of PASCAL VOC, besides background
_OWNERS = "or extract the owners' trainval.tar.gz again, whose label maps are of version 5"

OF_PNG = shifted(
    len(CLASSES),
    Mistake(
        values=frozenset({*range(_VOC + 1), IGNORE}),
        needs=frozenset({IGNORE}),
        what="they look like VOC's own labels of 20 classes, with 255 along the outlines",
        fix="put PASCAL-Context's labels there: its trainval.tar.gz, extracted to trainval/, needs no conversion",
    ),
    Mistake(
        values=frozenset({*range(len(CLASSES) - 1), IGNORE}),
        needs=frozenset({IGNORE}),
        what="1 has been taken off the labels: 255 for background, 0 to 58 for the classes",
        fix="add 1 to every value (255 becomes 0), or take the 59 classes alone as folder:PATH?classes=59",
    ),
)
OF_MAT = Encoding(
    {value: 0 for value in range(CATEGORIES + 1)} | {number: i for i, number in enumerate(NUMBERS.values(), 1)},
    (),
    f"0..{CATEGORIES}",
    Mistake(
        values=frozenset(range(len(CLASSES))),
        needs=frozenset(range(1, len(CLASSES))),
        what="the label maps have no category above 59: they seem to hold the 59 classes and not the 459 categories",
        fix="extract the owners' trainval.tar.gz again; its LabelMap numbers 459 categories",
    ),
)


def open_pascal_context(root: Path, split: str) -> Pictures:
    """Open one split of the data at `root`. Reads names and lists only. ValueError, one line, for anything missing."""
    if split not in OFFICIAL:
        raise ValueError(
            f"split {split!r} of pascal_context: expected one of {', '.join(OFFICIAL)} (its test labels are not public)"
        )
    if not root.is_dir():
        raise ValueError(f"{root}: data folder does not exist")
    if not (root / "JPEGImages").is_dir():
        inner = [path for path in (root / "VOC2010", root / "VOCdevkit" / "VOC2010") if (path / "JPEGImages").is_dir()]
        hint = f"; did you mean {quoted_path(inner[0])}?" if inner else ""
        raise ValueError(f"{root}: no folder JPEGImages in it, VOC 2010's pictures{hint}")
    labels, suffix = _labels(root)
    return Pictures(
        name="PASCAL-Context",
        classes=CLASSES,
        palette=default_palette(len(CLASSES)),
        files=_files(root, _list(root, split), labels, suffix),
        encoding=OF_PNG if suffix == ".png" else OF_MAT,
        read=read_label if suffix == ".png" else read_label_map,
        official=OFFICIAL[split],
    )


def read_label_map(path: Path) -> npt.NDArray[np.uint16]:
    """Read the `LabelMap` of a `.mat` file, uint16 (H, W); other variables are not read.

    Raises:
        ValueError: For a file that is missing or damaged, and for anything but whole numbers from 0 to 65535.
    """
    try:
        values = read_matrix(path, LABEL_MAP)
    except Refused:
        raise
    except Damaged as error:
        raise Damaged(f"{path}: truncated or damaged label map ({error})") from None
    except ValueError as error:
        raise Refused(f"{path}: {error}", _OWNERS) from None
    whole = values.ndim == 2 and values.size
    if not whole or not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise Refused(
            f"{path}: LabelMap is {values.dtype} {values.shape}: expected whole numbers (height, width)", _OWNERS
        )
    if values.min() < 0 or values.max() > 65535:
        raise Refused(
            f"{path}: LabelMap has values {values.min()} to {values.max()}: expected 0 to {CATEGORIES}", _OWNERS
        )
    return values.astype(np.uint16)


def _labels(root: Path) -> tuple[Path, str]:
    """Return the folder of the labels and their suffix."""
    folders = ((root / "SegmentationClassContext", ".png"), (root / "trainval", ".mat"))
    for folder, suffix in folders:
        if folder.is_dir() and any(folder.glob(f"*{suffix}")):
            if suffix == ".mat":
                _check_names(root)
            return folder, suffix
    raise ValueError(f"{root}: no labels: expected {' or '.join(f'{folder}/*{suffix}' for folder, suffix in folders)}")


def _check_names(root: Path) -> None:
    """Check that the owners' list of categories, if present, numbers the 59 classes as NUMBERS does."""
    for path in (root / "labels.txt", root / "trainval" / "labels.txt"):
        if not path.is_file():
            continue
        listed = {}
        for line in read_text(path).splitlines():
            left, colon, name = line.partition(":")
            if colon and left.strip().isdecimal():
                listed[name.strip()] = int(left)
        for name, number in NUMBERS.items():
            if listed.get(name) != number:
                raise ValueError(f"{path}: {name!r} has the number {listed.get(name)}: expected {number}")


def _list(root: Path, split: str) -> Path:
    sets = root / "ImageSets"
    own = sets / "SegmentationContext"
    return (own if own.is_dir() else sets / "Main") / f"{split}.txt"


def _files(root: Path, listing: Path, labels: Path, suffix: str) -> Files:
    """Return the pictures that a list names, in its order, each with its label."""
    images = {path.stem: path for path in (root / "JPEGImages").glob("*.jpg")}
    known = {path.stem: path for path in labels.glob(f"*{suffix}")}
    pairs, unpaired, seen = [], [], set()
    for number, line in enumerate(read_names(listing), 1):
        name = (line.split() or [""])[0]
        if not name:
            continue
        if name in seen:
            raise ValueError(f"{listing}, line {number}: image {name!r} is named a second time")
        seen.add(name)
        expected = labels / f"{name}{suffix}"
        if name not in images:
            path = root / "JPEGImages" / f"{name}.jpg"
            said = f"{listing}, line {number}: no image {path}"
            unpaired.append(Unpaired(path=path, expected=expected, said=said))
        elif name not in known:
            said = f"{images[name]}: no label {expected}"
            unpaired.append(Unpaired(path=images[name], expected=expected, said=said))
        else:
            pairs.append(Pair(image=images[name], label=known[name], name=name))
    if not seen:
        raise ValueError(f"{listing}: names no image")
    return Files(pairs=tuple(pairs), unpaired=tuple(unpaired))
