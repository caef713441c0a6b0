"""ADE20K as its challenge package lays it out: `images/{training,validation}`, `annotations/{training,validation}`.

Labels hold 0 for unlabelled pixels and 1 to 150 for the classes; here they become 255 and 0 to 149. The package names
its classes in a file of its own, which is not read: a class is called by its number in the package.
"""

from __future__ import annotations

from pathlib import Path

from unept.data.pictures import Pictures, images_below, pairs_of
from unept.data.sample import default_palette

CLASSES = 150
_FOLDERS = {"train": "training", "val": "validation"}


def open_ade20k(root: Path, split: str) -> Pictures:
    """One split of the package at `root`. ValueError, one line, for what is missing; the test split has no labels."""
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
        pairs=pairs_of(images_below(root / "images" / part), root / "annotations" / part),
        raw_ignore=0,
        first_class=1,
    )
