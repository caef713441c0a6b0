"""The files of a study's rows: one immutable JSON file a row, its claim, and what a run keeps beside it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import data_digest
from bench.results.data_digest import DataDigest, FileDigests
from bench.results.rows import KINDS, Row, SharedValues, row_from_text, row_to_text
from bench.results.study_file import ROW_FOLDERS
from unept.utils.atomic_files import atomic_write, sync_folder
from unept.utils.file_locks import LockBusy, file_lock
from unept.utils.paths import special_file

MAX_BYTES = 1 << 26  # of a row's file


class ClaimBusy(Exception):
    """Raised where another process holds the claim."""


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """Rows read from a study.

    Args:
        rows: The whole rows.
        problems: One line for each file that had to be left out.
    """

    rows: tuple[Row, ...]
    problems: tuple[str, ...]


class RowFiles:
    """Rows of one study by kind and key, without study.json (`store.Store` adds it).

    Args:
        out: The study's folder.
        keep: Hold every row that was read, so that it is not read again while its file stays the same.
    """

    def __init__(self, out: Path, *, keep: bool = False) -> None:
        self.out = out
        self._keep = keep
        self._kept: dict[Path, tuple[tuple[int, ...], Row]] = {}
        self._common = SharedValues()

    def path(self, kind: str, key: str) -> Path:
        """Return the path of the row of `key`, which need not exist."""
        assert kind in KINDS, kind
        return self.out / ROW_FOLDERS[kind] / f"{key}.json"

    def row(self, kind: str, key: str) -> Row | None:
        """Return the row of `key`, or None where there is none.

        Raises:
            ValueError: Where the file is damaged.
        """
        path = self.path(kind, key)
        try:
            if special := special_file(path):
                raise ValueError(f"{path}: {special}")
            status = path.stat()
            state = (status.st_ino, status.st_mtime_ns, status.st_size)
            if path in self._kept and self._kept[path][0] == state:
                return self._kept[path][1]
            if status.st_size > MAX_BYTES:
                raise ValueError(f"{path}: {status.st_size:,} bytes, more than a row has")
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        try:
            row = row_from_text(data.decode("utf-8"), kind, key)
        except ValueError as error:  # UnicodeDecodeError is one
            reason = "not text" if isinstance(error, UnicodeDecodeError) else error
            raise ValueError(f"{path}: {reason}") from None
        if self._keep:
            row = self._common.shared(row)
            self._kept[path] = (state, row)
        return row

    def has(self, kind: str, key: str) -> bool:
        """Return True if a whole row of `key` is there."""
        try:
            return self.row(kind, key) is not None
        except ValueError:
            return False

    def keys(self, kind: str) -> list[str]:
        """Return the keys of all files of rows, sorted; a damaged one has its key here too."""
        return sorted(path.stem for path in files_in(self.out / ROW_FOLDERS[kind]) if path.suffix == ".json")

    @contextlib.contextmanager
    def claim(self, kind: str, key: str) -> Iterator[None]:
        """Hold the right to write the row of `key` within the context.

        Raises:
            ClaimBusy: Where another process has it.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(file_lock(self.path(kind, key).with_suffix(".lock"), timeout=0))
            except LockBusy:
                raise ClaimBusy(key) from None
            yield

    def is_claimed(self, kind: str, key: str) -> bool:
        """Return True if some process holds the claim now."""
        try:
            with self.claim(kind, key):
                return False
        except ClaimBusy:
            return True

    def write(self, row: Mapping[str, Any]) -> None:
        """Add `row`, whole and synced, and drop the run's checkpoints. Only under its claim, and never over a row."""
        path = self.path(row["kind"], row["key"])
        assert not path.exists(), f"{path} exists; rows are immutable"
        atomic_write(path, row_to_text(row).encode(), alone=True)
        shutil.rmtree(self.checkpoints(row["key"]), ignore_errors=True)

    def checkpoints(self, key: str) -> Path:
        """Return the folder for a run's state between steps."""
        return self.out / "checkpoints" / key

    def pictures(self, key: str) -> Path:
        """Return the path of the images that a run keeps; not every run has them."""
        return self.out / "pictures" / f"{key}.npz"

    def module(self, digest: str) -> Path:
        """Return the folder of the copy of a user's module."""
        return self.out / "modules" / digest

    def log(self, key: str) -> Path:
        """Return the path of a run's log."""
        return self.out / "logs" / f"{key}.log"

    def write_data_files(self, data: DataDigest) -> None:
        """Keep the digests of the data's files, by which a later command can name those that have changed."""
        path = self._data_files(data.digest)
        if data.files and not path.exists():
            data_digest.write_files(path, data.files)

    def data_files(self, digest: str) -> FileDigests | None:
        """Return the digests of files that `write_data_files` kept; None where they are not there."""
        return data_digest.read_files(self._data_files(digest))

    def _data_files(self, digest: str) -> Path:
        return self.out / "data" / f"{digest}.json"

    def write_beside(self, key: str, *, log: bytes, pictures: bytes | None) -> None:
        """Add what another machine made besides a row.

        Args:
            key: The row's key.
            log: Bytes for the end of the log.
            pictures: Content of the images' file; None where the run kept none.
        """
        with open(self.log(key), "ab") as file:
            file.write(log)
        if pictures is not None:
            self.pictures(key).parent.mkdir(exist_ok=True)
            atomic_write(self.pictures(key), pictures)

    def clear_damaged(self, kind: str, key: str) -> str:
        """Rename a damaged row; return one line that says so, or "" where nothing was wrong."""
        try:
            self.row(kind, key)
        except ValueError as error:
            aside = set_aside(self.path(kind, key), "damaged")
            return f"{error}; set aside as {aside.name}, the run is due again"
        return ""

    def supersede(self, kind: str, key: str) -> None:
        """Rename a whole row so that its run is due again."""
        set_aside(self.path(kind, key), "superseded")


def set_aside(path: Path, why: str) -> Path:
    """Rename `path` to `NAME.why-N` with the first free N, and return the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    path.rename(aside)
    sync_folder(path.parent)
    return aside


def files_in(folder: Path) -> list[Path]:
    """Return the paths in a folder; [] where there is no such folder."""
    return list(folder.iterdir()) if folder.is_dir() else []
