"""The hash of the sources that decide results, so that an edit of them makes runs due and an edit of others does not.

It is made of a digest for each role (`roles`): `operator`, `model`, `losses`, `data`, `recipe`, `metrics`, for a
measure also `measure`, and one for each module of a user that a slot names, with what it imports (`user_modules`). A
digest is of what code computes, not of how it is written down (`canonical_code`). Nothing is imported to find the
files, and torch is not needed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from bench.results.canonical_code import USER, SourceFile, role_digests
from bench.results.roles import MEASURE, role_of
from bench.results.rows import content_key
from bench.results.user_modules import UserModule, find_user_modules, hashed_content, source_tree

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
        _user_modules.cache_clear()
    ours = {role: digest for role, digest in our_roles().items() if kind == "measure" or role != MEASURE}
    return ours | user_roles(slots)


def combined(roles: Mapping[str, str]) -> str:
    """Return the one hash, 16 hexadecimal digits, of digests by role."""
    return content_key(dict(roles))


def our_roles() -> dict[str, str]:
    """Return the digest of each role that this program's own sources play."""
    return dict(_digests(_files()))


def user_roles(slots: Iterable[str]) -> dict[str, str]:
    """Return the digest of each user's module that slots name, as `user:MODULE`; none for one that is not found."""
    return {f"{USER}:{top}": digest for top, (digest, _) in _user_modules(module_names(slots), os.getcwd()).items()}


def user_modules(slots: Iterable[str]) -> dict[str, UserModule]:
    """Return the files of the users' modules that slots name, by their digest in `user_roles`, as they were hashed."""
    return dict(_user_modules(module_names(slots), os.getcwd()).values())


def module_names(slots: Iterable[str]) -> frozenset[str]:
    """Return the dotted names of the users' modules in slots."""
    return frozenset(slot.partition(":")[0] for slot in slots if ":" in slot)


def user_digest(module: UserModule) -> str:
    """Return the digest of a user's module, 16 hexadecimal digits. Our files tell what it imports of them."""
    role = f"{USER}:{module.top}"
    theirs = [
        SourceFile(path=name, role=role, content=hashed_content(name, content))
        for name, content in module.files.items()
    ]
    ours = [SourceFile(path=file.path, role="", content=file.content) for file in _files()]
    return role_digests([*ours, *theirs])[role]


def slots_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every text of the model's settings that could name a user's `module:Class`."""
    return tuple(value for value in settings.get("model", {}).values() if isinstance(value, str) and ":" in value)


@cache
def _files() -> tuple[SourceFile, ...]:
    """Every source of `unept`, of `bench` and of the kernels; those without a role are there to be looked up."""
    unept, bench = _package_folder("unept"), Path(__file__).parents[1]
    folders = (("unept", unept), ("cuda", unept.parent / "cuda"), ("bench", bench))
    named = [pair for name, folder in folders for pair in source_tree(name, folder)]
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
def _user_modules(modules: frozenset[str], folder: str) -> dict[str, tuple[str, UserModule]]:
    """Each module's digest and files, by the first part of its name."""
    return {top: (user_digest(module), module) for top, module in find_user_modules(modules, folder).items()}


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    assert spec is not None, name
    assert spec.submodule_search_locations, name
    return Path(next(iter(spec.submodule_search_locations)))
