"""CamVid's pictures laid out as Cityscapes, to exercise what reads Cityscapes; scores on it are still CamVid's.

python tests/camvid_as_cityscapes.py OUT [--camvid PATH] [--splits train,val] [--images 20] [--kind labelTrainIds]
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from locations import SHARED_DATA
from PIL import Image

from unept.data.cityscapes import TABLE

SHARED = SHARED_DATA
CAMVID = SHARED / "camvid11"
UNLABELLED = 0  # of the owners' table


def lay_out(
    out: Path,
    *,
    camvid: Path = CAMVID,
    splits: tuple[str, ...] = ("train", "val"),
    images: int = 0,
    kind: str = "labelIds",
) -> dict[str, int]:
    """Write the first `images` pictures (0: all) of each split below `out`; returns how many by split.

    `meta.json` gives each class's id in the Cityscapes table. A sequence of CamVid stands for a city. Labels of the
    test split are void, as the owners'.
    """
    ids = json.loads((camvid / "meta.json").read_text(encoding="utf-8"))["cityscapes_id"]
    table = np.full(256, UNLABELLED if kind == "labelIds" else 255, np.uint8)
    train_ids = {number: index for index, (_, number, _) in enumerate(TABLE)}
    table[: len(ids)] = ids if kind == "labelIds" else [train_ids[number] for number in ids]
    counts = {}
    for split in splits:
        paths = sorted((camvid / "images" / split).glob("*.jpg"))
        paths = paths[: images or len(paths)]
        for path in paths:
            name = cityscapes_name(path.stem)
            city = name.partition("_")[0]
            with Image.open(path) as picture:
                _save(picture.convert("RGB"), out / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
            with Image.open(camvid / "labels" / split / f"{path.stem}.png") as label:
                values = table[np.asarray(label)]
            if split == "test":
                values = np.full_like(values, UNLABELLED)
            _save(Image.fromarray(values), out / "gtFine" / split / city / f"{name}_gtFine_{kind}.png")
        counts[split] = len(paths)
    return counts


def cityscapes_name(stem: str) -> str:
    """`0006R0_f00930` becomes `0006r0_000000_000930`: city, sequence, frame."""
    sequence, _, frame = stem.partition("_")
    return f"{sequence.lower()}_000000_{int(re.sub(r'[^0-9]', '', frame)):06d}"


def _save(picture: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--camvid", type=Path, default=CAMVID)
    parser.add_argument("--splits", default="train,val", help="default: train,val")
    parser.add_argument("--images", type=int, default=0, help="of each split; default: all")
    parser.add_argument("--kind", choices=("labelIds", "labelTrainIds"), default="labelIds")
    given = parser.parse_args()
    splits = tuple(given.splits.split(","))
    counts = lay_out(given.out, camvid=given.camvid, splits=splits, images=given.images, kind=given.kind)
    print(", ".join(f"{split} {count}" for split, count in counts.items()))


if __name__ == "__main__":
    main()
