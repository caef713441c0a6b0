"""Digest of a data set: what a run is trained and scored on, whatever its folder is called.

    digest = data_digest("folder:PATH", ("train", "val"))

The digest of a split is made of the names of its pictures and labels below the data's folder, in the split's order, of
their content, and of what the labels' values mean. A file is read once: its digest is kept, with size, times and inode,
in `data/` of the program's cache folder, and holds as long as these are the same. Generated scenes have no files; their
digest is of their configuration, and their code belongs to the sources.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.results.rows import content_key
from unept.utils.atomic_files import atomic_write
from unept.utils.cache_folder import cache_folder
from unept.utils.file_locks import LockBusy, file_lock
from unept.utils.paths import user_path

READERS = 8  # files read at once
LOCK_SECONDS = 10.0  # seconds to wait for another process that writes the same cache file
SETTLED_NS = 2_000_000_000  # a file that changed less than this before it was read may change again unseen
NAMES_SHOWN = 3  # of files that differ
_CHUNK = 1 << 20  # bytes

FileDigests = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DataDigest:
    """Digests of a data set's splits and files when they were read.

    Args:
        digest: Digest of everything below.
        splits: Digest of each split; empty for generated scenes.
        files: Digest of each file by its name below the data's folder.
    """

    digest: str
    splits: Mapping[str, str] = field(default_factory=dict)
    files: FileDigests = field(default_factory=dict)

    @property
    def record(self) -> dict[str, Any]:
        """The digests as a row, a training and an evaluation record them."""
        return {"digest": self.digest, "splits": dict(self.splits)}


@dataclass(frozen=True, kw_only=True)
class _Split:
    digest: str
    files: FileDigests


_known: dict[tuple[str, str, str], _Split] = {}  # splits that this process has looked at, by data, folder and name


def has_files(data: str) -> bool:
    """Return True for a data set in files, False for generated scenes."""
    from unept.data.scene_spec import is_generated

    return not is_generated(data)


def digest_of_settings(settings: Mapping[str, Any], *, again: bool = False) -> DataDigest:
    """Return the digest of the splits that a run of these settings reads.

    Args:
        settings: Settings as plain values.
        again: Look at the files anew; else a process looks at each split once.
    """
    if not has_files(settings["data"]):
        scenes = settings.get("scenes", {})
        first = (
            settings["data"] == "scenes"
        )  # in a record that is the first version, whose digest is of the fields alone
        return DataDigest(digest=content_key(scenes if first else {"data": settings["data"], "scenes": scenes}))
    splits = dict.fromkeys(("train", settings["evaluation"]["split"]))
    return data_digest(settings["data"], splits, again=again)


def data_digest(data: str, splits: Iterable[str], *, again: bool = False) -> DataDigest:
    """Return the digest of some splits of a data set in files.

    Args:
        data: Specification, such as `folder:PATH`.
        splits: Names of the splits.
        again: Look at the files anew; else a process looks at each split once.

    Raises:
        ValueError: One line, for a missing split and for a file that cannot be read.
    """
    by_split = {}
    for split in splits:
        key = (data, os.getcwd(), split)
        if again or key not in _known:
            _known[key] = _split_digest(data, split)
        by_split[split] = _known[key]
    digests = {split: known.digest for split, known in by_split.items()}
    files = {name: digest for known in by_split.values() for name, digest in known.files.items()}
    return DataDigest(digest=content_key(digests), splits=digests, files=files)


def differing_files(before: FileDigests, after: FileDigests) -> list[str]:
    """Return the names of files that were added, removed or changed, sorted."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))


def describe_difference(before: FileDigests | None, after: FileDigests) -> str:
    """Return `2 files differ (labels/val/a.png, labels/val/b.png)`.

    Args:
        before: The files' digests at an earlier time; None where they are not known.
        after: Their digests now.
    """
    names = [] if before is None else differing_files(before, after)
    if not names:
        return "files differ" if before is None else "their order, classes or label values differ"
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    differ = "1 file differs" if len(names) == 1 else f"{len(names)} files differ"
    return f"{differ} ({', '.join(names[:NAMES_SHOWN])}{more})"


def write_files(path: Path, files: FileDigests) -> None:
    """Write the digests of files, by which a later command can name those that have changed."""
    path.parent.mkdir(exist_ok=True)
    atomic_write(path, json.dumps(dict(sorted(files.items())), indent=0).encode())


def read_files(path: Path) -> FileDigests | None:
    """Return the digests of files that `write_files` wrote; None where they cannot be read."""
    try:
        files = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return files if isinstance(files, dict) else None


def _split_digest(data: str, split: str) -> _Split:
    from unept.data import open_data

    root = user_path(data.partition(":")[2].partition("?classes=")[0])
    pictures: Any = open_data(data, split)
    pairs = [[path for path in (pair.image, pair.label) if path] for pair in pictures.pairs]
    names = [[Path(os.path.relpath(path, root)).as_posix() for path in pair] for pair in pairs]
    files = _file_digests(root, [name for pair in names for name in pair])
    meaning = {
        "classes": pictures.classes,
        "labels": sorted(pictures.encoding.classes.items()),
        "ignored": sorted(pictures.encoding.ignored),
    }
    content = {"files": [[[name, files[name]] for name in pair] for pair in names], "meaning": meaning}
    return _Split(digest=content_key(content), files=files)


def _file_digests(root: Path, names: Sequence[str]) -> dict[str, str]:
    cache = _cache_file(root)
    kept = _read_cache(cache)
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        entries = dict(zip(names, pool.map(lambda name: _entry(root / name, kept.get(name)), names), strict=True))
    fresh = {name: entry for name, entry in entries.items() if entry is not kept.get(name) and entry[0]}
    if fresh and cache:
        _add_to_cache(cache, root, fresh)
    return {name: entry[1] for name, entry in entries.items()}


Entry = tuple[list[int], str]
"""What `stat` says of a file, [] where it may change unseen, and the digest of its content."""


def _entry(path: Path, kept: Entry | None) -> Entry:
    from unept.data.image_file import open_file

    try:
        if kept and kept[0] == _stat(os.stat(path)):
            return kept
        total = hashlib.sha256()
        with open_file(path) as file:
            before = os.fstat(file.fileno())
            while chunk := file.read(_CHUNK):
                total.update(chunk)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    settled = max(after.st_mtime_ns, after.st_ctime_ns) < time.time_ns() - SETTLED_NS
    return (_stat(after) if settled and _stat(before) == _stat(after) else []), total.hexdigest()[:32]


def _stat(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _cache_file(root: Path) -> Path | None:
    """Return the file that keeps the digests of a folder's files; None where there is no home folder."""
    with contextlib.suppress(RuntimeError, OSError):
        name = hashlib.sha256(str(root.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        return cache_folder() / "data" / f"{name}.json"
    return None


def _read_cache(path: Path | None) -> dict[str, Entry]:
    """Return the entries of a cache file by name; those of another form are left out."""
    try:
        content = json.loads(path.read_bytes()) if path else {}
        listed = content["files"].items() if path else ()
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return {}
    return {
        name: (entry[0], entry[1])
        for name, entry in listed
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], list) and isinstance(entry[1], str)
    }


def _add_to_cache(path: Path, root: Path, fresh: Mapping[str, Entry]) -> None:
    """Add entries to a cache file. Where it cannot be written, the files are read again the next time."""
    with contextlib.suppress(OSError, LockBusy):
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_suffix(".lock"), timeout=LOCK_SECONDS):
            content = {"root": str(root.resolve()), "files": {**_read_cache(path), **fresh}}
            atomic_write(path, json.dumps(content).encode())
