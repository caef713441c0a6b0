"""The hash of the sources that decide results, so that an edit of them makes runs due and an edit of others does not.

For a run these are `unept/`, the kernel sources beside it, the recipe in `bench/`, and the files of a user's own
attention modules. Nothing is imported to find them.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

SUFFIXES = (".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".inc")
RECIPE = (
    "distributed.py",
    "evaluation/boundary_metrics.py",
    "evaluation/evaluate.py",
    "evaluation/metrics.py",
    "evaluation/protocol.py",
    "training/activation_checkpointing.py",
    "training/checkpoint.py",
    "training/execution.py",
    "training/loop.py",
)
MEASURES = "profiling"


def hash_files(files: Iterable[tuple[str, Path]]) -> str:
    """16 hexadecimal digits over (relative name, content) pairs, whatever their order."""
    total = hashlib.sha256()
    for name, path in sorted(files):
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def source_hash(kind: str, slots: Iterable[str] = (), *, again: bool = False) -> str:
    """The hash for a run or a measure whose attention slots hold `slots` (names, or a user's `module:Class`).

    Files are read once a process, or, `again`, anew.
    """
    if again:
        _hash.cache_clear()
    users = frozenset(slot.partition(":")[0] for slot in slots if ":" in slot)
    return _hash(kind, users, os.getcwd())


def slots_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Every text of the model's settings that could name a user's `module:Class`."""
    return tuple(value for value in settings["model"].values() if isinstance(value, str) and ":" in value)


@cache
def _hash(kind: str, users: frozenset[str], folder: str) -> str:
    bench = Path(__file__).parents[1]
    unept = _package_folder("unept")
    files = [*_tree("unept", unept), *_tree("cuda", unept.parent / "cuda")]
    files += [(f"bench/{name}", bench / name) for name in RECIPE if (bench / name).exists()]
    if kind == "measure":
        files += _tree(f"bench/{MEASURES}", bench / MEASURES)
    for module in users:
        files += user_files(module, folder)
    return hash_files(set(files))


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, name
    assert spec.submodule_search_locations, name
    return Path(next(iter(spec.submodule_search_locations)))


def _tree(name: str, folder: Path) -> list[tuple[str, Path]]:
    return [
        (f"{name}/{path.relative_to(folder).as_posix()}", path)
        for path in folder.rglob("*")
        if path.suffix in SUFFIXES and path.is_file()
    ]


def user_files(module: str, folder: str) -> list[tuple[str, Path]]:
    """The source file of `module`, or every source of its top package where it lives in one; [] if it is not found.

    Looked up where the models look: the import path, then `folder`.
    """
    top, *rest = module.split(".")
    spec = importlib.machinery.PathFinder.find_spec(top, [*sys.path, folder])
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [pair for place in spec.submodule_search_locations for pair in _tree(f"user/{top}", Path(place))]
    if rest or not spec.origin or not Path(spec.origin).is_file():
        return []
    return [(f"user/{Path(spec.origin).name}", Path(spec.origin))]
