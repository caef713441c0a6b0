"""The hash of the sources that decide results, so that an edit of them makes runs due and an edit of others does not.

It is made of a digest for each role (`roles`): `operator`, `model`, `losses`, `data`, `recipe`, `metrics`, for a
measure also `measure`, and one for each module of a user that a slot names. A digest is of what code computes, not of
how it is written down (`canonical_code`). Nothing is imported to find the files, and torch is not needed.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from bench.results.canonical_code import USER, SourceFile, role_digests
from bench.results.roles import MEASURE, role_of
from bench.results.rows import content_key

SUFFIXES = (".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".inc")
_INSTALLED_KERNELS = "unept/ops/kernels/"  # the kernel sources once installed; in a checkout: cuda/


def source_hash(kind: str, slots: Iterable[str] = (), *, again: bool = False) -> str:
    """Return the hash of everything that decides a result: `combined` of `source_roles`, with the same arguments."""
    return combined(source_roles(kind, slots, again=again))


def source_roles(kind: str, slots: Iterable[str] = (), *, again: bool = False) -> dict[str, str]:
    """Return the digest of each role that decides a result.

    Args:
        kind: `run` or `measure`.
        slots: what the model's attention slots hold: names of ours, or a user's `module:Class`.
        again: read the files anew; else they are read once a process.

    Returns:
        16 hexadecimal digits by role; that of a user's module is `user:MODULE`.
    """
    if again:
        _files.cache_clear()
        _user_roles.cache_clear()
    ours = {role: digest for role, digest in our_roles().items() if kind == "measure" or role != MEASURE}
    modules = frozenset(slot.partition(":")[0] for slot in slots if ":" in slot)
    return ours | user_roles(modules)


def combined(roles: Mapping[str, str]) -> str:
    """Return the one hash, 16 hexadecimal digits, of digests by role."""
    return content_key(dict(roles))


def our_roles() -> dict[str, str]:
    """Return the digest of each role that this program's own sources play."""
    return dict(_digests(_files()))


def user_roles(modules: Iterable[str]) -> dict[str, str]:
    """Return the digest of each of a user's modules, as `user:MODULE`; none for a module that is not found."""
    return dict(_user_roles(frozenset(modules), os.getcwd()))


def slots_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every text of the model's settings that could name a user's `module:Class`."""
    return tuple(value for value in settings.get("model", {}).values() if isinstance(value, str) and ":" in value)


def user_files(module: str, folder: str) -> list[tuple[str, Path]]:
    """Return the source file of a user's module, or every source of its top package where it is in one.

    Args:
        module: its dotted name.
        folder: where to look for it after the import path, as the models do.

    Returns:
        A name, such as `user/mine.py`, and the path of each file; [] if the module is not found.
    """
    top, *rest = module.split(".")
    spec = importlib.machinery.PathFinder.find_spec(top, [*sys.path, folder])
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [pair for location in spec.submodule_search_locations for pair in _tree(f"user/{top}", Path(location))]
    if rest or not spec.origin or not Path(spec.origin).is_file():
        return []
    return [(f"user/{Path(spec.origin).name}", Path(spec.origin))]


@cache
def _files() -> tuple[SourceFile, ...]:
    """Every source of `unept`, of `bench` and of the kernels; those without a role are there to be looked up."""
    unept, bench = _package_folder("unept"), Path(__file__).parents[1]
    named = [*_tree("unept", unept), *_tree("cuda", unept.parent / "cuda"), *_tree("bench", bench)]
    files = []
    for name, path in sorted(named):
        if name.startswith(_INSTALLED_KERNELS):
            name = f"cuda/{name.removeprefix(_INSTALLED_KERNELS)}"
        files.append(SourceFile(path=name, role=role_of(name), content=path.read_bytes()))
    return tuple(files)


@lru_cache(maxsize=8)
def _digests(files: tuple[SourceFile, ...]) -> dict[str, str]:
    return role_digests(files)


@cache
def _user_roles(modules: frozenset[str], folder: str) -> dict[str, str]:
    """Digests of the users' files alone; ours are there to tell what a name that they import stands for."""
    tops = {module.partition(".")[0]: module for module in modules}
    theirs = {
        SourceFile(path=name.removeprefix("user/"), role=f"{USER}:{top}", content=path.read_bytes())
        for top, module in tops.items()
        for name, path in user_files(module, folder)
    }
    if not theirs:
        return {}
    ours = [SourceFile(path=file.path, role="", content=file.content) for file in _files()]
    return role_digests([*ours, *sorted(theirs, key=lambda file: file.path)])


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
