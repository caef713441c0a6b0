"""Small data sets in the exact layouts and encodings of their owners."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.io import savemat

from unept.data.cityscapes import TABLE
from unept.data.pascal_context import CATEGORIES, NUMBERS

HEIGHT, WIDTH = 16, 24
CITIES = {"train": "aachen", "val": "frankfurt", "test": "berlin"}
Bytes = npt.NDArray[np.uint8]


def write(path: Path, values: npt.NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def noise(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def values(*allowed: int, height: int = HEIGHT, width: int = WIDTH) -> npt.NDArray[np.int64]:
    """A label with each of the values in turn."""
    return np.resize(np.array(allowed), (height, width))


def seed_of(split: str, number: int) -> int:
    return 10 * list(CITIES).index(split) + number


def folder(root: Path, *, classes: int = 3, images: int = 2) -> Path:
    """A palette PNG a label, values 0 to classes - 1 and 255."""
    for split in ("train", "val"):
        for number in range(images):
            write(root / "images" / split / f"{number}.jpg", noise(seed_of(split, number)))
            label = Image.fromarray(values(*range(classes), 255).astype(np.uint8))
            label.putpalette(list(np.random.default_rng(0).integers(0, 256, 768)))
            path = root / "labels" / split / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            label.save(path)
    (root / "meta.json").write_text(json.dumps({"name": "Toy", "classes": [f"c{i}" for i in range(classes)]}))
    return root


def ade20k(root: Path, *, images: int = 2) -> Path:
    """JPEG pictures, grey PNG labels with 0 for unlabelled and 1 to 150."""
    for split, part in (("train", "training"), ("val", "validation")):
        for number in range(1, images + 1):
            name = f"ADE_{split}_{number:08d}"
            write(root / "images" / part / f"{name}.jpg", noise(seed_of(split, number)))
            write(root / "annotations" / part / f"{name}.png", values(*range(151)).astype(np.uint8))
    (root / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n")
    (root / "sceneCategories.txt").write_text("ADE_train_00000001 street\n")
    return root


def cityscapes(root: Path, *, kind: str = "labelIds", images: int = 2) -> Path:
    """PNG pictures; of each the owners' labels of one kind, with the colours, instances and polygons beside them."""
    allowed = range(34) if kind == "labelIds" else (*range(19), 255)
    for split, city in CITIES.items():
        for number in range(images):
            name = f"{city}_{number:06d}_000019"
            write(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", noise(seed_of(split, number)))
            label = values(*allowed) if split != "test" else values(0, 1, 2, 3)
            truth = root / "gtFine" / split / city
            write(truth / f"{name}_gtFine_{kind}.png", label.astype(np.uint8))
            write(truth / f"{name}_gtFine_color.png", noise(number))
            write(truth / f"{name}_gtFine_instanceIds.png", label.astype(np.uint16) * 1000)
            (truth / f"{name}_gtFine_polygons.json").write_text("{}")
    return root


def _voc(root: Path, lists: str, images: int) -> dict[str, list[str]]:
    """Pictures and lists of VOC 2010, with a picture that is in neither list."""
    names = {"train": [f"2008_{n:06d}" for n in range(images)], "val": [f"2010_{n:06d}" for n in range(images)]}
    for split, found in names.items():
        for number, name in enumerate(found):
            write(root / "JPEGImages" / f"{name}.jpg", noise(seed_of(split, number)))
        path = root / "ImageSets" / lists / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in found))
    write(root / "JPEGImages" / "2009_000001.jpg", noise(99))
    return names


def pascal_png(root: Path, *, images: int = 2) -> Path:
    """Labels as OpenMMLab's converter writes them: 0 to 59, grey PNG."""
    for found in _voc(root, "SegmentationContext", images).values():
        for name in found:
            write(root / "SegmentationClassContext" / f"{name}.png", values(*range(60)).astype(np.uint8))
    return root


def pascal_mat(root: Path, *, images: int = 2) -> Path:
    """The owners' label maps of 459 categories, compressed as theirs, and VOC's own lists."""
    for found in _voc(root, "Main", images).values():
        for name in found:
            label_map(root / "trainval" / f"{name}.mat", values(*NUMBERS.values(), 1, 431, 459))
    names = {number: name for name, number in NUMBERS.items()}
    listed = (f"{n}: {names.get(n, f'thing {n}')}\n" for n in range(1, CATEGORIES + 1))
    (root / "labels.txt").write_text("".join(listed))
    return root


def label_map(path: Path, label: npt.NDArray[Any], name: str = "LabelMap") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: label.astype(np.uint16)}, do_compression=True)
    return path


def train_ids(label: Bytes) -> Bytes:
    """The owners' ids as train ids, by their table."""
    table = np.full(256, 255, np.uint8)
    for index, (_, number, _) in enumerate(TABLE):
        table[number] = index
    return table[label]
