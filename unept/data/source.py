"""From a specification to a data set: `scenes`, `folder:PATH`, `folder:PATH?classes=N` or `ade20k:PATH`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from unept.data.ade20k import open_ade20k
from unept.data.folder import open_folder
from unept.data.pictures import Pictures
from unept.data.sample import Dataset
from unept.data.scenes import SceneConfig, Scenes

KINDS = ("scenes", "folder", "ade20k")
_FORMS = "scenes, folder:PATH or ade20k:PATH"


@dataclass(frozen=True, kw_only=True)
class _Spec:
    kind: str
    root: Path
    classes: int | None


def open_data(spec: str, split: str, scenes: SceneConfig | None = None) -> Dataset:
    """One split of the data set that `spec` names; `scenes` configures the generated one.

    Relative paths start at the working directory. Names of files are read, their content is not. ValueError, one
    line, for a malformed specification and for whatever is missing.
    """
    return _open(_parse(spec), split, scenes or SceneConfig())


def check_data(
    spec: str,
    scenes: SceneConfig | None = None,
    *,
    splits: tuple[str, ...] = ("train", "val"),
    classes: int | None = None,
) -> tuple[str, ...]:
    """Read every picture and label of the splits once, side by side, and return the names of the classes.

    ValueError, one line that names the file, for the first picture (in order) that is truncated or no image, has no
    label or one of another size, or a label with a value outside the classes; also where the data have another number
    of classes than `classes`. What passed once is not read again by this process.
    """
    parsed = _parse(spec)
    datasets = [_open(parsed, split, scenes or SceneConfig()) for split in splits]
    names = datasets[0].classes
    if classes is not None and classes != len(names):
        raise ValueError(f"data {spec}: {len(names)} classes, but the model has {classes}")
    if parsed.kind != "scenes":
        for split in splits:
            _check_files(_Spec(kind=parsed.kind, root=parsed.root.resolve(), classes=parsed.classes), split)
    return names


def _open(spec: _Spec, split: str, scenes: SceneConfig) -> Dataset:
    if spec.kind == "scenes":
        return Scenes(scenes, split)
    return _open_files(spec, split)


def _open_files(spec: _Spec, split: str) -> Pictures:
    return open_ade20k(spec.root, split) if spec.kind == "ade20k" else open_folder(spec.root, split, spec.classes)


@cache
def _check_files(spec: _Spec, split: str) -> None:
    pictures = _open_files(spec, split)
    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
        try:
            for _ in pool.map(pictures.check, range(len(pictures))):
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise


def _parse(spec: str) -> _Spec:
    kind, colon, rest = spec.partition(":")
    if kind not in KINDS:
        near = [f"folder:{spec}"] if spec and Path(spec).is_dir() else get_close_matches(kind, KINDS, 1)
        raise ValueError(f"data {spec!r}: expected {_FORMS}{f'; did you mean {near[0]}?' if near else ''}")
    if kind == "scenes":
        if colon:
            raise ValueError(f"data {spec!r}: scenes take no path")
        return _Spec(kind=kind, root=Path(), classes=None)
    path, flag, number = rest.partition("?classes=")
    if not path:
        raise ValueError(f"data {spec!r}: no path (expected {kind}:PATH)")
    if flag and (kind != "folder" or not number.isdecimal() or not 1 <= int(number) <= 255):
        raise ValueError(f"data {spec!r}: expected folder:PATH?classes=NUMBER with 1 to 255 classes")
    return _Spec(kind=kind, root=Path(path).expanduser(), classes=int(number) if flag else None)
