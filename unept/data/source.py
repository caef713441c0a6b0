"""Opens data sets from specifications: `scenes`, `scenes:v2`, `folder:PATH`, `ade20k:PATH` and so on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from unept.data.ade20k import open_ade20k
from unept.data.cityscapes import open_cityscapes
from unept.data.folder import open_folder, split_lists
from unept.data.image_dataset import Pictures
from unept.data.pascal_context import open_pascal_context
from unept.data.sample import Dataset
from unept.data.scene_spec import KIND as SCENES
from unept.data.scene_spec import SceneSpec, is_generated, parse_scene_spec
from unept.data.scenes import SceneConfig, Scenes
from unept.data.scenes_v2 import ScenesV2
from unept.utils.container import usable_cores
from unept.utils.paths import quoted_path, user_path

# The data sets of known layout, and a folder that each of them has and no other.
OWNED: Mapping[str, tuple[Callable[[Path, str], Pictures], str]] = {
    "ade20k": (open_ade20k, "annotations"),
    "cityscapes": (open_cityscapes, "leftImg8bit"),
    "pascal_context": (open_pascal_context, "JPEGImages"),
}
KINDS = (SCENES, "folder", *OWNED)
_PATHS = [f"{kind}:PATH" for kind in ("folder", *OWNED)]
FORMS = f"{SCENES}, {SCENES}:v2, {', '.join(_PATHS[:-1])} or {_PATHS[-1]}"


@dataclass(frozen=True, kw_only=True)
class _Spec:
    kind: str
    root: Path
    classes: int | None
    scenes: SceneSpec | None = None


def open_data(spec: str, split: str, scenes: SceneConfig | None = None) -> Dataset:
    """Open one split of the data set that `spec` names. Names of files are read, their content is not.

    Args:
        spec: Specification; relative paths start at the working directory.
        split: train, val or test.
        scenes: Configuration of the generated data set.

    Raises:
        ValueError: One line, for a malformed specification and for anything missing.
    """
    return _open(_parse(spec), split, scenes or SceneConfig())


def open_incomplete(spec: str, split: str) -> Pictures:
    """Open one split of a data set in files; pictures without label are left out and listed in its `files`."""
    parsed = _parse(spec)
    if parsed.scenes:
        raise ValueError(f"data {spec!r}: scenes are generated: there are no files to read")
    return _open_files(parsed, split)


def spec_of(text: str) -> str:
    """Return a specification as it is, and the specification of a bare folder by its content.

    ValueError if it is neither.
    """
    path = user_path(text)
    if text.partition(":")[0] in KINDS or not text or not path.is_dir():
        _parse(text)
        return text
    for kind, (_, mark) in OWNED.items():
        if (path / mark).is_dir():
            return f"{kind}:{text}"
    if (path / "images").is_dir():
        return f"folder:{text}"
    marks = ", ".join(f"{mark}/ ({kind})" for kind, (_, mark) in OWNED.items())
    raise ValueError(f"{text}: of no known layout: expected {marks} or images/ (folder) in it")


def splits_of(spec: str) -> tuple[str, ...]:
    """Return the splits of a data set in files: train and val, and test if there are pictures for it."""
    parsed = _parse(spec)
    test_folder = {"cityscapes": "leftImg8bit/test", "folder": "images/test"}.get(parsed.kind)
    listed = parsed.kind == "folder" and bool(split_lists(parsed.root, "test"))
    return ("train", "val", *["test"] * (listed or bool(test_folder and (parsed.root / test_folder).exists())))


def check_data(
    spec: str,
    scenes: SceneConfig | None = None,
    *,
    splits: tuple[str, ...] = ("train", "val"),
    classes: int | None = None,
    read_files: bool = True,
) -> tuple[str, ...]:
    """Read every picture and label of the splits once, in parallel, and return the names of the classes.

    A split that passed once is not read again by this process.

    Args:
        spec: Specification of the data set.
        scenes: Configuration of the generated data set.
        splits: Splits to read.
        classes: Number of classes that the data must have; None for any.
        read_files: False to look at names alone.

    Raises:
        ValueError: One line that names the file, for the first picture (in order) that is truncated or no image, has no
            label or one of another size, or a label with a value outside the classes; also for a split without any
            labels and for another number of classes.
    """
    parsed = _parse(spec)
    datasets = [_open(parsed, split, scenes or SceneConfig()) for split in splits]
    names = datasets[0].classes
    if classes is not None and classes != len(names):
        raise ValueError(f"data {spec}: {len(names)} classes, but the model has {classes}")
    for split, dataset in zip(splits, datasets, strict=True):
        if isinstance(dataset, Pictures):
            if not dataset.labelled:
                raise ValueError(f"data {spec}: split {split!r} has no labels: it can neither be trained on nor scored")
            if read_files:
                _check_files(_Spec(kind=parsed.kind, root=parsed.root.resolve(), classes=parsed.classes), split)
    return names


def _open(spec: _Spec, split: str, scenes: SceneConfig) -> Dataset:
    if spec.scenes:
        return Scenes(scenes, split) if spec.scenes.version == "v1" else ScenesV2(scenes, split, spec.scenes.emblems)
    pictures = _open_files(spec, split)
    unpaired = pictures.files.unpaired
    if unpaired:
        raise ValueError(f"{unpaired[0].said}{f' (and {len(unpaired) - 1} more)' if len(unpaired) > 1 else ''}")
    return pictures


def _open_files(spec: _Spec, split: str) -> Pictures:
    if spec.kind in OWNED:
        return OWNED[spec.kind][0](spec.root, split)
    return open_folder(spec.root, split, spec.classes)


@cache
def _check_files(spec: _Spec, split: str) -> None:
    pictures = _open_files(spec, split)
    with ThreadPoolExecutor(max_workers=min(usable_cores(), 16)) as pool:
        try:
            for _ in pool.map(pictures.check, range(len(pictures))):
                pass
        except ValueError:
            pool.shutdown(cancel_futures=True)
            raise


def _parse(spec: str) -> _Spec:
    kind, _, rest = spec.partition(":")
    if kind not in KINDS:
        raise ValueError(f"data {spec!r}: expected {FORMS}{_meant(spec, kind)}")
    if is_generated(spec):
        return _Spec(kind=kind, root=Path(), classes=None, scenes=parse_scene_spec(spec))
    path, flag, number = rest.partition("?classes=")
    if not path:
        raise ValueError(f"data {spec!r}: no path (expected {kind}:PATH)")
    if flag and (kind != "folder" or not number.isdecimal() or not 1 <= int(number) <= 255):
        raise ValueError(f"data {spec!r}: expected folder:PATH?classes=NUMBER with 1 to 255 classes")
    return _Spec(kind=kind, root=user_path(path), classes=int(number) if flag else None)


def _meant(spec: str, kind: str) -> str:
    """Return a clause that names the specification that was probably meant, or ""."""
    if not spec or not Path(spec).is_dir():
        near = get_close_matches(kind, KINDS, 1)
        return f"; did you mean {near[0]}?" if near else ""
    try:
        return f"; did you mean {quoted_path(spec_of(spec))}?"
    except ValueError:
        return f"; did you mean {quoted_path(f'folder:{spec}')}?"
