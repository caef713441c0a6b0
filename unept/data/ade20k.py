"""ADE20K as its challenge package lays it out: `images/{training,validation}`, `annotations/{training,validation}`.

Labels hold 0 for unlabelled pixels and 1 to 150 for the classes; here they become 255 and 0 to 149. The package names
its classes in a file of its own, which is not read: a class is called by its number in the package.
"""

from __future__ import annotations

from pathlib import Path

from unept.data.image_dataset import Official, Pictures, images_below, pairs_of
from unept.data.label_encoding import Mistake, shifted
from unept.data.sample import IGNORE, default_palette

CLASSES = 150
OFFICIAL = {"train": Official(pictures=20_210, void=True), "val": Official(pictures=2_000, void=True)}
_FOLDERS = {"train": "training", "val": "validation"}
_REDUCED = Mistake(
    values=frozenset({*range(CLASSES), IGNORE}),
    needs=frozenset({IGNORE}),
    what="1 has been taken off the labels already: 255 for unlabelled, 0 to 149 for the classes",
    fix="extract the package's own annotations again, which hold 0 to 150",
)
_COUNTED_FROM_0 = Mistake(
    values=frozenset(range(CLASSES)),
    needs=frozenset({CLASSES - 1}),
    what="they end at 149, one below the last class: the classes seem to be counted from 0, and class 1 to be lost",
    fix="extract the package's own annotations again, which hold 0 for unlabelled and 1 to 150",
)
ENCODING = shifted(CLASSES, _REDUCED, _COUNTED_FROM_0, first=1, ignore=0)


def open_ade20k(root: Path, split: str) -> Pictures:
    """Open one split of the package at `root`. ValueError, one line, for anything missing.

    The test split has no labels.
    """
    if split not in _FOLDERS:
        raise ValueError(
            f"split {split!r} of ade20k: expected one of {', '.join(_FOLDERS)} (its test labels are not public)"
        )
    if not root.is_dir():
        raise ValueError(f"{root}: data folder does not exist")
    part = _FOLDERS[split]
    return Pictures(
        name="ADE20K",
        classes=[f"class {number}" for number in range(1, CLASSES + 1)],
        palette=default_palette(CLASSES),
        files=pairs_of(images_below(root / "images" / part), root / "annotations" / part),
        encoding=ENCODING,
        official=OFFICIAL[split],
    )
