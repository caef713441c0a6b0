"""Cityscapes as its owners lay it out: `leftImg8bit/SPLIT/CITY/` and the fine labels in `gtFine/SPLIT/CITY/`.

Labels are `*_gtFine_labelIds.png`, ids 0 to 33 of the owners' table, or `*_gtFine_labelTrainIds.png`, which their
scripts make of them: 0 to 18 for the classes that are scored, 255 for the rest. Ids become train ids here. The licence
plate, -1 in the table, is in no label file; where a tool has written it as 255 it is ignored. The labels of the test
split are not public (its files hold void alone), so its pictures come without, and `write_result` writes what the
owners' test server takes: a PNG a picture, with ids and not train ids.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from unept.data.image_dataset import Files, Official, Pair, Pictures, files_below, images_below, pair_up
from unept.data.label_encoding import Encoding, Mistake, shifted
from unept.data.sample import IGNORE, SPLITS, Bytes
from unept.utils.atomic_files import atomic_write

SIZE = (2048, 1024)
LAST_ID = 33
OFFICIAL = {
    "train": Official(pictures=2_975, size=SIZE, void=True),
    "val": Official(pictures=500, size=SIZE, void=True),
    "test": Official(pictures=1_525, size=SIZE),
}
# In the order of the train ids: name, id, colour.
TABLE = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
CLASSES = len(TABLE)
_IDS = np.array([number for _, number, _ in TABLE], np.uint8)
_TAKE_IDS = "extract the owners' gtFine package again, or name these files *_gtFine_labelTrainIds.png"
ENCODINGS = {
    "labelIds": Encoding(
        {number: index for index, (_, number, _) in enumerate(TABLE)},
        {*range(LAST_ID + 1), IGNORE} - {number for _, number, _ in TABLE},
        f"the ids 0..{LAST_ID}",
        Mistake(
            values=frozenset({*range(CLASSES), IGNORE}),
            needs=frozenset({IGNORE}),
            what="these files named labelIds hold train ids, 0 to 18",
            fix=_TAKE_IDS,
        ),
    ),
    "labelTrainIds": shifted(
        CLASSES,
        Mistake(
            values=frozenset({*range(CLASSES + 1)}),
            needs=frozenset({CLASSES}),
            what="void has the value 19 and not 255",
            fix="make the files anew with the owners' csCreateTrainIdLabelImgs, or write 255 for 19",
        ),
        Mistake(
            values=frozenset(range(LAST_ID + 1)),
            needs=frozenset(range(CLASSES, LAST_ID + 1)),
            what="these files named labelTrainIds hold ids, up to 33",
            fix="name them *_gtFine_labelIds.png, or make them anew with the owners' csCreateTrainIdLabelImgs",
        ),
    ),
}
_IMAGE = "_leftImg8bit"


def open_cityscapes(root: Path, split: str) -> Pictures:
    """Open one split of the data at `root`; the test split has no labels.

    A split's labels are all of one kind: labelIds, unless more of its pictures have labelTrainIds. Reads names only.

    Raises:
        ValueError: One line, for anything missing.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} of cityscapes: expected one of {', '.join(SPLITS)}")
    if not root.is_dir():
        raise ValueError(f"{root}: data folder does not exist")
    images = _images(root / "leftImg8bit" / split)
    kind = "labelIds"
    if split == "test":
        files = Files(pairs=tuple(Pair(image=path, label=None, name=name) for name, path in images.items()))
    else:
        folder = root / "gtFine" / split
        labels = _labels(folder)
        kind = max(labels, key=lambda kind: len(labels[kind].keys() & images.keys()))
        files = pair_up(images, labels[kind], lambda name: folder / f"{name}_gtFine_{kind}.png")
    return Pictures(
        name="Cityscapes",
        classes=[name for name, _, _ in TABLE],
        palette=[colour for _, _, colour in TABLE],
        files=files,
        encoding=ENCODINGS[kind],
        official=OFFICIAL[split],
    )


def label_ids(prediction: Bytes) -> Bytes:
    """Convert train ids 0 to 18, uint8 (H, W), to the ids of the owners' table. ValueError for any other value."""
    if prediction.size and prediction.max() >= CLASSES:
        raise ValueError(f"prediction holds the value {prediction.max()}: expected 0 to {CLASSES - 1}")
    return _IDS[prediction]


def result_path(folder: Path, name: str) -> Path:
    """Return the file that `write_result` writes a prediction to."""
    return folder / f"{Path(name).name}.png"


def write_result(folder: Path, name: str, prediction: Bytes) -> Path:
    """Write a prediction as a file for the owners' test server, and return its path.

    The server pairs files by the beginning of their names.

    Args:
        folder: Folder of the result.
        name: Name of the sample, CITY/CITY_SEQUENCE_FRAME; the file is `CITY_SEQUENCE_FRAME.png`, written atomically.
        prediction: Train ids, uint8 (H, W); the file holds ids.

    Raises:
        ValueError: For values that are no train id.
    """
    path = result_path(folder, name)
    picture = Image.fromarray(label_ids(prediction))
    folder.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    picture.save(content, "PNG")
    return atomic_write(path, content.getvalue())


def _images(folder: Path) -> dict[str, Path]:
    """Return the pictures of a split by CITY/CITY_SEQUENCE_FRAME."""
    images = images_below(folder)
    for name, path in images.items():
        if not name.endswith(_IMAGE):
            raise ValueError(f"{path}: expected a name that ends with {_IMAGE}.png")
    return {name.removesuffix(_IMAGE): path for name, path in images.items()}


def _labels(folder: Path) -> dict[str, dict[str, Path]]:
    """Return the labels of a split by kind and by the names of its pictures."""
    labels: dict[str, dict[str, Path]] = {kind: {} for kind in ENCODINGS}
    for path in files_below(folder):
        name, _, ending = path.relative_to(folder).as_posix().rpartition("_gtFine_")
        if ending.removesuffix(".png") in labels and ending.endswith(".png"):
            labels[ending.removesuffix(".png")][name] = path
    return labels
