"""The pictures that a prediction is asked for, by name."""

from __future__ import annotations

from pathlib import Path

from unept.data.load_image import photos_below


def image_paths(path: Path, out: Path) -> dict[str, Path]:
    """Return the images at a path by a name that no two share: their own below the folder, without suffix where unique.

    Args:
        path: An image, or a folder of them.
        out: Folder of the results; images in it are left out.

    Raises:
        ValueError: There is no image, or `out` is the folder itself.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such picture or folder")
    out_folder = out.resolve()
    if path.resolve() == out_folder:
        raise ValueError(f"--out {out}: the pictures lie there, and results would be among them; name another folder")
    files = [path]
    if path.is_dir():
        files = [file for file in photos_below(path) if not file.parent.resolve().is_relative_to(out_folder)]
    if not files:
        raise ValueError(f"{path}: no pictures in it")
    below = [file.relative_to(path) if path.is_dir() else Path(file.name) for file in files]
    bare = [name.with_suffix("").as_posix() for name in below]
    return {
        (name.as_posix() if bare.count(short) > 1 else short): file
        for name, short, file in zip(below, bare, files, strict=True)
    }
