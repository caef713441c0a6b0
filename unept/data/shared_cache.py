"""Cache of byte maps that the processes of one user share: a file in the cache folder, read and written in records.

A record is a key, a digest of key and content, and the content. So a record that was torn by a crash, written by two
processes at once or damaged on the disk is no record, and its maps are made again: no lock is needed for that, and
whoever reads gets what `make` would have returned, or nothing. Where the folder cannot be written, the file is read;
where it cannot be read either, every process makes its own maps.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Hashable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from unept.utils.cache_folder import cache_folder

Maps = tuple[npt.NDArray[np.uint8], ...]

FOLDER = "maps"
FILE_BYTES = 1 << 28  # bytes that a file may hold; what does not fit is made each time
KEPT_FILES = 8  # of a name; the least recently written go when another is begun
_KEY_BYTES = _DIGEST_BYTES = 16
_TRIES = 16  # records that a key may have


class SharedCache:
    """Tuples of uint8 arrays of fixed shapes, by key."""

    def __init__(self, name: str, shapes: Sequence[tuple[int, ...]], *, makers: Sequence[str], records: int) -> None:
        """Describe the file; it is opened at the first use.

        Args:
            name: Start of the file's name.
            shapes: Shape of each array of an entry.
            makers: Everything besides the key that decides the content: sources that make it, versions of libraries.
                Nothing is kept where one of them is "", not known.
            records: Largest number of entries, as far as `FILE_BYTES` allows.
        """
        self._shapes = tuple(shapes)
        self._content_bytes = sum(int(np.prod(shape)) for shape in self._shapes)
        self._record_bytes = _KEY_BYTES + _DIGEST_BYTES + self._content_bytes
        self._records = min(records, FILE_BYTES // self._record_bytes) if all(makers) else 0
        identity = "\0".join(["1", *makers, repr(self._shapes), str(self._records)])
        self._name, self._identity = name, hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._file: int | None = None
        self._opened = self._writable = False

    def get(self, key: Hashable, make: Callable[[], Maps]) -> Maps:
        """Return the entry of `key`, whose `repr` identifies it, or else what `make` returns, and keep that."""
        if self._records and not self._opened:
            self._open()
        if self._file is None:
            return make()
        name = hashlib.blake2b(repr(key).encode(), digest_size=_KEY_BYTES).digest()
        first, free = int.from_bytes(name[:8], "little"), None
        for attempt in range(min(_TRIES, self._records)):
            offset = (first + attempt) % self._records * self._record_bytes
            head = os.pread(self._file, _KEY_BYTES, offset)
            if head == name:
                content = self._content_at(offset, name)
                if content is not None:
                    return self._arrays(content)
                free = offset
                break
            if len(head) < _KEY_BYTES or not any(head):
                free = offset
                break
        made = make()
        if free is not None and self._writable:
            self._write(free, name, made)
        return made

    def _content_at(self, offset: int, name: bytes) -> bytes | None:
        """Return the content of a record; None for one that is not whole."""
        assert self._file is not None
        record = os.pread(self._file, self._record_bytes, offset)
        content = record[_KEY_BYTES + _DIGEST_BYTES :]
        whole = record[: _KEY_BYTES + _DIGEST_BYTES] == name + _digest(name, content)
        return content if whole and len(content) == self._content_bytes else None

    def _arrays(self, content: bytes) -> Maps:
        arrays, start = [], 0
        for shape in self._shapes:
            count = int(np.prod(shape))
            arrays.append(np.frombuffer(content, np.uint8, count, start).reshape(shape))
            start += count
        return tuple(arrays)

    def _write(self, offset: int, name: bytes, made: Maps) -> None:
        """Write a record; where that fails, as on a full disk, nothing more is written."""
        assert self._file is not None
        if tuple(array.shape for array in made) != self._shapes:
            return
        content = b"".join(array.tobytes() for array in made)
        try:
            os.pwrite(self._file, name + _digest(name, content) + content, offset)
        except OSError:
            self._writable = False

    def _open(self) -> None:
        self._opened = True
        if not hasattr(os, "pread"):  # Windows
            return
        with contextlib.suppress(OSError, RuntimeError):
            folder = cache_folder() / FOLDER
            path = folder / f"{self._name}-{self._identity}.maps"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._file, self._writable = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), True
                self._drop_old_files(folder)
            except OSError:
                if self._file is None:
                    self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _drop_old_files(self, folder: Path) -> None:
        """Remove the least recently written files of this name; a process that has one open goes on with it."""
        files = sorted(folder.glob(f"{self._name}-*.maps"), key=lambda path: path.stat().st_mtime)
        for path in files[:-KEPT_FILES]:
            path.unlink(missing_ok=True)


def _digest(name: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES, key=name).digest()


@cache
def shared_cache(name: str, shapes: tuple[tuple[int, ...], ...], makers: tuple[str, ...], records: int) -> SharedCache:
    """Return this process's `SharedCache` of these arguments, one however often it is asked for."""
    return SharedCache(name, shapes, makers=makers, records=records)


@cache
def source_digest(*paths: str) -> str:
    """Return a digest of source files, by which those of other entries are told apart; "" where one cannot be read."""
    try:
        contents = [Path(path).read_bytes() for path in paths]
    except OSError:
        return ""
    return hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
