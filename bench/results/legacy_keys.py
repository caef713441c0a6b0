"""Rows of older versions under today's keys, so that their studies are continued and nothing of them is done again.

That release made keys of the bytes of its source files. When one of its studies is continued, each row that the
sources of the release made is given the key that their equivalents (`release_0_1_0.EQUIVALENT`) have today, once and
for all. The row keeps its release, and says its former key and sources under `former`. Rows of other sources stay as
they are, and so do measures of a user's attention, whose operations that release may have counted short. Older
versions also kept options of an attention that are at their defaults: such a row gets the key and the name of the same
run without them. Reading a study changes nothing in it.

`python -m bench.results.legacy_keys` prints the digests of today's sources, `--write` makes them the equivalent ones
while the version is one that gives that release's numbers.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bench.config.attention_options import is_attention_option, without_defaults
from bench.results import release_0_1_0 as release
from bench.results.roles import MEASURE
from bench.results.row_files import ClaimBusy
from bench.results.rows import KINDS, Row, counts_all_products, row_key, row_to_text
from bench.results.source_hash import combined, module_names, our_roles, slots_of, source_roles, user_roles
from bench.results.store import Store
from bench.results.user_modules import source_tree
from unept.utils.atomic_files import atomic_write, sync_folder


@dataclass(frozen=True, kw_only=True)
class Move:
    """One row of an older version, and the same row as it is written under today's key."""

    old: Row
    new: Row

    @property
    def kind(self) -> str:
        """`run` or `measure`."""
        return str(self.new["kind"])


def legacy_hashes(kind: str, slots: Iterable[str]) -> frozenset[str]:
    """Return the hashes that release 0.1.0 gave its own sources, run from a checkout and run as installed.

    Args:
        kind: `run` or `measure`.
        slots: what the attention slots hold; a user's modules are hashed as the release did, from today's files.
    """
    return _legacy_hashes(kind, module_names(slots), os.getcwd())


def equivalent_roles(kind: str, slots: Iterable[str]) -> dict[str, str]:
    """Return the digests of roles that give the numbers of release 0.1.0, with those of a user's modules of today."""
    ours = {role: digest for role, digest in release.EQUIVALENT.items() if kind == "measure" or role != MEASURE}
    return ours | user_roles(slots)


def translated(row: Row) -> Row | None:
    """Return the row under today's key; None for a row that has it.

    That is a row without options at their defaults which the sources of release 0.1.0 did not make.
    """
    if not {"settings", "sources"} <= row.keys():
        return None
    made = _of_the_release(row) or row
    plain = _without_defaults(made) or made
    return None if plain is row else plain


def _without_defaults(row: Row) -> Row | None:
    """Return the row as that of the run without options at their defaults; None where it has none."""
    options = row["settings"].get("model", {}).get("attention_options")
    if not options:
        return None
    settings = without_defaults(row["settings"])
    left = settings["model"].get("attention_options", {})
    dropped = [name for name in options if name not in left]
    if not dropped:
        return None
    words = [word for word in row["variant"].split() if word.partition("=")[0] not in dropped]
    slots = dict.fromkeys(name.partition(".")[0] for name in dropped if is_attention_option(name))
    name = " ".join(words or [f"{slot}={settings['model'][slot]}" for slot in slots])
    new = {field: value for field, value in row.items() if field != "digest"}
    former = {"key": row["key"], "settings": row["settings"], "variant": row["variant"]}
    new |= {"settings": settings, "variant": name, "former": former | row.get("former", {})}
    return new | {"key": row_key(row["kind"], new)}


def _of_the_release(row: Row) -> Row | None:
    if "roles" in row or (row["kind"] == "measure" and not counts_all_products(row)):
        return None
    slots = slots_of(row["settings"])
    if row["sources"] not in legacy_hashes(row["kind"], slots):
        return None
    roles = equivalent_roles(row["kind"], slots)
    new = {name: value for name, value in row.items() if name != "digest"}
    new |= {"sources": combined(roles), "roles": roles, "release": release.RELEASE}
    new["former"] = {"key": row["key"], "sources": row["sources"]}
    return new | {"key": row_key(row["kind"], new)}


def pending(store: Store) -> list[Move]:
    """Return the rows of a study that are still under keys of older versions. Nothing is changed."""
    rows = [row for kind in KINDS for row in store.read(kind).rows]
    return [Move(old=row, new=new) for row in rows if (new := translated(row))]


def adopt_rows(store: Store) -> list[str]:
    """Give the rows of older versions today's keys; returns one line that says so, or none.

    The new rows are written first, then study.json lists them, then the old files go. A crash leaves either or both,
    and the next call does the rest. It holds the folder's lock, so that of two processes one does it.
    """
    if not pending(store):
        return []
    today = source_roles(MEASURE) == equivalent_roles(MEASURE, ())
    with store.lock():
        done = [move for move in pending(store) if _write_row(store, move)]
        store.rename_listed({(move.kind, move.old["key"]): move.new for move in done})
        for move in done:
            _move_files(store, move.old["key"], move.new["key"])
            _remove_old(store, move)
        for folder in {store.path(move.kind, move.old["key"]).parent for move in done}:
            sync_folder(folder)
    if not done:
        return []
    of_release = [move for move in done if "settings" not in move.new["former"]]
    said = (
        (
            len(of_release),
            f"of release {release.RELEASE}",
            "today's keys" if today else "keys by what its code computes",
        ),
        (len(done) - len(of_release), "with options at their defaults", "the keys of the same runs without them"),
    )
    return [
        f"{count} {'row' if count == 1 else 'rows'} {which} {'was' if count == 1 else 'were'} given {keys}"
        for count, which, keys in said
        if count
    ]


def _remove_old(store: Store, move: Move) -> None:
    """Remove a row that is there under its new key; one of a run that was made twice is set aside instead."""
    kept = store.row(move.kind, move.new["key"])
    if kept is not None and kept.get("former", {}).get("key") == move.new["former"]["key"]:
        store.path(move.kind, move.old["key"]).unlink()
    else:
        store.supersede(move.kind, move.old["key"])


def adopt_checkpoints(store: Store, specs: Iterable[Mapping[str, Any]]) -> None:
    """Move the checkpoints of runs that release 0.1.0 began to where their runs of today look for them.

    Args:
        store: the study.
        specs: the runs that are due. Those whose sources do not give the release's numbers begin anew.
    """
    for spec in specs:
        slots = slots_of(spec["settings"])
        if spec["kind"] != "run" or spec["sources"] != combined(equivalent_roles("run", slots)):
            continue
        for sources in legacy_hashes("run", slots):
            old = row_key("run", {**spec, "sources": sources})
            if not store.checkpoints(old).is_dir():
                continue
            try:
                with store.claim("run", old), store.claim("run", spec["key"]):
                    _move_files(store, old, spec["key"])
            except ClaimBusy:
                continue


def _write_row(store: Store, move: Move) -> bool:
    """Write the row under its new key unless it is there; False where another process is making it just now."""
    key = move.new["key"]
    try:
        with store.claim(move.kind, key):
            store.clear_damaged(move.kind, key)
            if not store.has(move.kind, key):
                atomic_write(store.path(move.kind, key), row_to_text(move.new).encode())
    except ClaimBusy:
        return False
    return True


def _move_files(store: Store, old: str, new: str) -> None:
    """Move what lies beside a row under its key: pictures, log, checkpoints. What is there under the new key stays."""
    for path in (store.pictures, store.log, store.checkpoints):
        if path(old).exists() and not path(new).exists():
            path(old).rename(path(new))
    if store.has("run", new):
        shutil.rmtree(store.checkpoints(old), ignore_errors=True)


@cache
def _legacy_hashes(kind: str, modules: frozenset[str], folder: str) -> frozenset[str]:
    theirs = {
        (name, path, hashlib.sha256(path.read_bytes()).hexdigest())
        for module in modules
        for name, path in _user_files(module, folder)
    }
    hashes = set()
    for kernels in ("cuda/", "unept/ops/kernels/"):
        ours = {
            (re.sub("^cuda/", kernels, name), Path(), digest)
            for name, digest in release.FILES.items()
            if kind == "measure" or not name.startswith("bench/measures/")
        }
        total = hashlib.sha256()
        for name, _, digest in sorted(ours | theirs):
            total.update(f"{name}\0{digest}\n".encode())
        hashes.add(total.hexdigest()[:16])
    return frozenset(hashes)


def _user_files(module: str, folder: str) -> list[tuple[str, Path]]:
    """The files that the release hashed of a user's module: its own, or every source of its top package."""
    top, *rest = module.split(".")
    spec = importlib.machinery.PathFinder.find_spec(top, [*sys.path, folder])
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [
            pair for location in spec.submodule_search_locations for pair in source_tree(f"user/{top}", Path(location))
        ]
    if rest or not spec.origin or not Path(spec.origin).is_file():
        return []
    return [(f"user/{Path(spec.origin).name}", Path(spec.origin))]


def version() -> str:
    """Return the version that the checkout's pyproject.toml gives this program."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    (found,) = re.findall(r'(?m)^version = "(.*)"$', text)
    return str(found)


def main(arguments: list[str]) -> int:
    """Print the digests of today's sources, or, with `--write`, make them those that give the release's numbers."""
    text = f"EQUIVALENT: dict[str, str] = {json.dumps(our_roles(), indent=4)}\n".replace('"\n}', '",\n}')
    if arguments != ["--write"]:
        print(text, end="")
        return 0
    if version() not in release.SAME_NUMBERS:
        print(
            f"error: version {version()} does not give the numbers of {release.RELEASE}: expected one of "
            f"{', '.join(release.SAME_NUMBERS)}, so nothing is written",
            file=sys.stderr,
        )
        return 2
    path = Path(release.__file__)
    before = path.read_text(encoding="utf-8")
    after, count = re.subn(r"^EQUIVALENT: .* = \{[^}]*\}\n", text, before, flags=re.MULTILINE)
    assert count == 1, f"{path}: no EQUIVALENT"
    atomic_write(path, after.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
