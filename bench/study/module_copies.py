"""Copies of the users' modules in a study's folder, which its runs use: editing the originals changes no run of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bench.results.row_files import set_aside
from bench.results.source_hash import slots_of, user_digest, user_modules
from bench.results.store import Store
from bench.results.user_modules import UserModule, read_copy, write_copy


def copied_modules(slots: Iterable[str]) -> dict[str, list[str]]:
    """Return the digests of the users' modules that are copied, each with the folders that it is found in."""
    return {digest: [*module.folders] for digest, module in user_modules(slots).items() if module.folders}


def copy_modules(store: Store, specs: Iterable[Mapping[str, Any]]) -> list[str]:
    """Copy the users' modules of jobs into the study's folder, each once.

    Returns:
        A line for each copy that was not as it had been made, and was set aside.
    """
    modules: dict[str, UserModule] = {}
    for slots in {
        slots_of(spec["settings"]) for spec in specs
    }:  # as the specs were made, so that these are their files
        modules |= {digest: module for digest, module in user_modules(slots).items() if module.folders}
    lines: list[str] = []
    if modules:
        store.out.mkdir(parents=True, exist_ok=True)
        with store.lock():
            for digest, module in modules.items():
                lines += _copy(store, digest, module)
    return lines


def _copy(store: Store, digest: str, module: UserModule) -> list[str]:
    folder = store.module(digest)
    lines = []
    if folder.exists():
        there = UserModule(top=module.top, files=read_copy(folder), folders=())
        if there.files and user_digest(there) == digest:
            return []
        lines = [f"{folder} was changed; set aside as {set_aside(folder, 'damaged').name} and made anew"]
    write_copy(module.files, folder)
    return lines
