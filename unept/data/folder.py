"""A folder of labelled pictures: `images/SPLIT/`, `labels/SPLIT/` and `meta.json`.

Or flat `images/` and `labels/` with one list of names for each split, `SPLIT.txt`, there or in `splits/`. `meta.json`
holds `classes` (names, or their number) and may hold `name`, `palette`, `ignore` (the labels' value for unlabelled
pixels, 255 if not given) and `max_pixels` (pictures of more are refused); without it the number of classes is given
beside the path, `folder:PATH?classes=11`.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from unept.data.image_dataset import Pictures, images_below, pairs_of
from unept.data.image_file import MAX_PIXELS
from unept.data.label_encoding import shifted
from unept.data.sample import IGNORE, Colour, default_palette, is_class_name, is_colour


def open_folder(root: Path, split: str, classes: int | None = None) -> Pictures:
    """Open one split of the folder `root`. Reads names only.

    Args:
        root: Folder of the data set.
        split: Name of the split.
        classes: Number of classes if there is no `meta.json`.

    Raises:
        ValueError: One line, for a folder that is missing or empty, an unknown split, a picture without label, and a
            `meta.json` that is missing or malformed.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: data folder does not exist")
    if not (root / "images").is_dir():
        raise ValueError(f"{root}: no folder images/ in it")
    meta = _meta(root, classes)
    images = _images(root, split)
    flat = not (root / "images" / split).is_dir()
    files = pairs_of(images, root / "labels" if flat else root / "labels" / split)
    if flat:  # the labels of the other splits lie there too
        files = replace(files, spare=())
    encoding = shifted(len(meta["classes"]), ignore=meta["ignore"])
    return Pictures(
        name=meta["name"],
        classes=meta["classes"],
        palette=meta["palette"],
        files=files,
        encoding=encoding,
        max_pixels=meta["max_pixels"],
    )


def split_lists(root: Path, split: str) -> list[Path]:
    """Return the lists of names that a split has, `SPLIT.txt` and `splits/SPLIT.txt`."""
    return [path for path in (root / f"{split}.txt", root / "splits" / f"{split}.txt") if path.is_file()]


def _images(root: Path, split: str) -> dict[str, Path]:
    """Return the split's pictures by name: a folder's content, or those that the split's list names, in its order."""
    if (root / "images" / split).is_dir():
        return images_below(root / "images" / split)
    lists = split_lists(root, split)
    if not lists:
        raise ValueError(
            f"{root}: split {split!r} has neither a folder images/{split}/ nor a list {split}.txt or splits/{split}.txt"
        )
    if len(lists) > 1:
        raise ValueError(f"{lists[0]}: a second list of split {split!r} beside {lists[1]}")
    listing = lists[0]
    every = images_below(root / "images")
    by_file = {path.relative_to(root / "images").as_posix(): name for name, path in every.items()}
    chosen: dict[str, Path] = {}
    for number, line in enumerate(read_names(listing), 1):
        word = line.strip()
        if not word:
            continue
        name = by_file.get(word, word)
        if name not in every:
            raise ValueError(f"{listing}, line {number}: no image {word!r} in {root / 'images'}")
        if name in chosen:
            raise ValueError(f"{listing}, line {number}: image {word!r} is named a second time")
        chosen[name] = every[name]
    if not chosen:
        raise ValueError(f"{listing}: names no image")
    return chosen


def _meta(root: Path, classes: int | None) -> dict[str, Any]:
    """Return checked name, class names, palette, ignore value and limit of pixels."""
    path = root / "meta.json"
    if not path.is_file() and classes is None:
        raise ValueError(
            f"{root}: number of classes unknown: no meta.json in it, and no ?classes=NUMBER after the path"
        )
    try:
        content = json.loads(read_text(path)) if path.is_file() else {"classes": classes}
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(content, dict) or "classes" not in content:
        raise ValueError(f"{path}: expected an object with a field 'classes'")
    names = _names(path, content["classes"])
    if classes is not None and classes != len(names):
        raise ValueError(f"{path}: {len(names)} classes, but ?classes={classes} after the path")
    ignore = content.get("ignore", IGNORE)
    if not isinstance(ignore, int) or isinstance(ignore, bool) or not 0 <= ignore <= 255:
        raise ValueError(f"{path}: 'ignore' is {ignore!r}: expected a whole number from 0 to 255")
    max_pixels = content.get("max_pixels", MAX_PIXELS)
    if not isinstance(max_pixels, int) or isinstance(max_pixels, bool) or max_pixels < 1:
        raise ValueError(f"{path}: 'max_pixels' is {max_pixels!r}: expected a whole number of at least 1")
    return {
        "name": str(content.get("name", root.resolve().name)),
        "classes": names,
        "palette": _palette(path, content, len(names)),
        "ignore": ignore,
        "max_pixels": max_pixels,
    }


def read_names(path: Path) -> list[str]:
    """Return the lines of a list of file names, whose bytes need not be UTF-8. ValueError if it cannot be read."""
    try:
        return os.fsdecode(path.read_bytes()).removeprefix("\ufeff").splitlines()
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file. ValueError, one line, if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ValueError(f"{path}: {reason}") from error


def _names(path: Path, value: object) -> tuple[str, ...]:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 1 <= value <= IGNORE:
            raise ValueError(f"{path}: {value} classes: expected 1 to {IGNORE}")
        value = [f"class {number}" for number in range(value)]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError(f"{path}: 'classes' is neither a list of names nor a number")
    if not 1 <= len(value) <= IGNORE:
        raise ValueError(f"{path}: {len(value)} classes: expected 1 to {IGNORE}")
    unfit = [name for name in value if not is_class_name(name)]
    if unfit:
        raise ValueError(f"{path}: class name {unfit[0]!a}: expected text without tabs, line ends and other controls")
    twice = [name for name in value if value.count(name) > 1]
    if twice:
        raise ValueError(f"{path}: class name {twice[0]!r} is given twice")
    return tuple(value)


def _palette(path: Path, content: dict[str, Any], classes: int) -> tuple[Colour, ...]:
    if "palette" not in content:
        return default_palette(classes)
    colours = content["palette"]
    if not isinstance(colours, list) or len(colours) != classes or not all(is_colour(colour) for colour in colours):
        raise ValueError(f"{path}: 'palette' is not a list of {classes} colours [red, green, blue], each 0 to 255")
    return tuple((red, green, blue) for red, green, blue in colours)
