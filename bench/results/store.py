"""A study's folder: one immutable JSON file per run, and everything else made from those files.

    OUT/study.json            preset and data of the folder, and the experiments that were run in it
    OUT/runs/KEY.json         one row per run          OUT/measures/KEY.json   one row per measured variant
    OUT/runs/KEY.lock         its claim                OUT/logs/KEY.log        OUT/checkpoints/KEY/
    OUT/pictures/KEY.npz      some pictures with what the run predicted for them
    OUT/results.csv           scores: what a repetition gives again, bit for bit
    OUT/measures.csv          operations, memory, time
    OUT/provenance.csv        when, how long, and where each row was made

One folder holds one preset and one data set, and any number of experiments (grids, tables of the paper). Rows are found
by key, so a cell that two experiments share is run once; study.json lists for each experiment the keys of its rows and
the names it gives them, and a report takes the rows that its experiment lists. A row appears whole or not at all: it is
written under a temporary name, synced and renamed, by whoever holds its claim. The claim is a file lock that dies with
its process. A damaged row is renamed to KEY.json.damaged-1 and never deleted, a row that a retry replaces likewise to
KEY.json.superseded-1.

Reading a study imports no torch.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results import csv_export
from bench.results.rows import KINDS, SCHEMA, Row, SharedValues, row_from_text, row_to_text
from unept.utils.atomic_files import atomic_write, sync_folder
from unept.utils.file_locks import LockBusy, file_lock

FORMAT = "unept-bench study"
STUDY_FILE = "study.json"
_OWN = (STUDY_FILE, "study.lock", f"{STUDY_FILE}.tmp")
_ROW_FOLDERS = {"run": "runs", "measure": "measures"}


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


class Store:
    """One study's folder (see the module). Creating a Store touches nothing; `open` creates the folder or refuses it.

    Args:
        out: The folder.
        keep: Hold every row that was read, so that it is not read again while its file stays the same.
    """

    def __init__(self, out: Path, *, keep: bool = False) -> None:
        self.out = out
        self._keep = keep
        self._kept: dict[Path, tuple[tuple[int, ...], Row]] = {}
        self._common = SharedValues()

    # --- the folder ---------------------------------------------------------------------------------------------------

    def open(self, *, preset: str, data: str) -> list[str]:
        """Create the folder, or check that it belongs to this preset and data.

        Returns:
            Lines for the user, such as that a damaged study.json was set aside.

        Raises:
            ValueError: For a folder that belongs to something else.
            OSError: Where it cannot be written.
        """
        self.check(preset=preset, data=data)
        self.out.mkdir(parents=True, exist_ok=True)
        messages = []
        with self.lock():
            if (self.out / STUDY_FILE).exists() and not self._study():
                aside = set_aside(self.out / STUDY_FILE, "damaged")
                messages.append(
                    f"{self.out / STUDY_FILE} is damaged; set aside as {aside.name} and made anew: no row is lost, and "
                    "the folder's other experiments are listed again by their commands"
                )
            if not (self.out / STUDY_FILE).exists():
                fresh = {"format": FORMAT, "schema": SCHEMA, "preset": preset, "data": data, "created": utc_now()}
                atomic_write(self.out / STUDY_FILE, _json(fresh | {"experiments": {}}), alone=True)
        for folder in (*_ROW_FOLDERS.values(), "logs", "checkpoints"):
            (self.out / folder).mkdir(exist_ok=True)
        for leftover in _listed(self.out / "checkpoints"):  # of a worker that was killed just after it wrote its row
            if self.has("run", leftover.name):
                shutil.rmtree(leftover, ignore_errors=True)
        return messages

    def check(self, *, preset: str, data: str) -> None:
        """Check, without touching anything, that the folder is free or for this preset and data.

        Raises:
            ValueError: Names what the folder belongs to.
        """
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"{self.out} is a file: expected a folder; name another with --out")
        foreign = [path.name for path in _listed(self.out) if path.name not in _OWN]
        if not foreign and not (self.out / STUDY_FILE).exists():
            return
        identity = self._identity()
        if identity is None:
            first = sorted(foreign)[0] if foreign else STUDY_FILE
            raise ValueError(
                f"{self.out} is not empty and no study of this program (it holds {first}); name another with --out"
            )
        if identity != (preset, data):
            raise ValueError(
                f"{self.out} belongs to preset {identity[0]}, data {identity[1]}; "
                f"this is preset {preset}, data {data}: name another folder with --out"
            )

    def _identity(self) -> tuple[str, str] | None:
        """Return preset and data from study.json, else from the rows; None where neither tells."""
        study = self._study()
        if study:
            return study["preset"], study["data"]
        for row in self.read("run").rows:
            return row["preset"], row["settings"]["data"]
        if (self.out / STUDY_FILE).exists() and (self.out / _ROW_FOLDERS["run"]).is_dir():
            raise ValueError(
                f"{self.out / STUDY_FILE} is damaged and there is no row to tell what it was; name another with --out"
            )
        return None

    def _study(self) -> dict[str, Any]:
        """Return study.json's content; {} where it is absent, damaged or not ours. ValueError for a newer schema."""
        try:
            study = json.loads((self.out / STUDY_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError, RecursionError):
            return {}
        if not isinstance(study, dict) or study.get("format") != FORMAT:
            return {}
        if study.get("schema") != SCHEMA:
            raise ValueError(f"{self.out / STUDY_FILE} has schema {study.get('schema')}, this program reads {SCHEMA}")
        return study if {"preset", "data"} <= study.keys() and _all_entries(study.get("experiments")) else {}

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Return the lock for changes that concern the whole folder: study.json, the tables, a report."""
        return file_lock(self.out / "study.lock")

    def token(self) -> str:
        """Return a text that differs between studies, by which another machine sees if it has this one; "" for none."""
        return str(self._study().get("created", ""))

    # --- experiments --------------------------------------------------------------------------------------------------

    def experiments(self) -> dict[str, dict[str, Any]]:
        """Return the entries of study.json by experiment name.

        Raises:
            ValueError: If this is no study.
        """
        study = self._study()
        if not study:
            damaged = (
                f"; {STUDY_FILE} is damaged, and the study's command makes it anew" * (self.out / STUDY_FILE).exists()
            )
            raise ValueError(f"{self.out}: no study here (no readable {STUDY_FILE}{damaged})")
        return study["experiments"]

    def register(self, name: str, experiment: Mapping[str, Any], *, measures: bool = True) -> None:
        """List `experiment` in study.json.

        Args:
            name: The name it is listed under.
            experiment: Its entry; `runs` and `measures` list the rows that belong to it.
            measures: False keeps the measures listed before: their keys are those of another machine.
        """
        with self.lock():
            study = self._study()
            assert study, "register comes after open"
            before = study["experiments"].get(name, {})
            entry = dict(experiment) | {"created": before.get("created", utc_now())}
            if not measures and before.get("variants") == entry["variants"]:
                entry["measures"] = before["measures"]
            if before != entry:
                study["experiments"][name] = entry
                atomic_write(self.out / STUDY_FILE, _json(study), alone=True)

    def rename_listed(self, keys: Mapping[tuple[str, str], str]) -> None:
        """List rows under other keys. Only under the folder's lock.

        Args:
            keys: the new key of each row, by its kind and old key.
        """
        study = self._study()
        before = _json(study)
        for experiment in study.get("experiments", {}).values():
            for kind, folder in _ROW_FOLDERS.items():
                for entry in experiment[folder]:
                    entry["key"] = keys.get((kind, entry["key"]), entry["key"])
        if _json(study) != before:
            atomic_write(self.out / STUDY_FILE, _json(study))

    # --- rows ---------------------------------------------------------------------------------------------------------

    def path(self, kind: str, key: str) -> Path:
        """Return the path of the row of `key`, which need not exist."""
        assert kind in KINDS, kind
        return self.out / _ROW_FOLDERS[kind] / f"{key}.json"

    def row(self, kind: str, key: str) -> Row | None:
        """Return the row of `key`, or None where there is none.

        Raises:
            ValueError: Where the file is damaged.
        """
        path = self.path(kind, key)
        try:
            status = path.stat()
            state = (status.st_ino, status.st_mtime_ns, status.st_size)
            if path in self._kept and self._kept[path][0] == state:
                return self._kept[path][1]
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except IsADirectoryError:
            raise ValueError(f"{path}: a folder") from None
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

    def read(self, kind: str, experiment: str = "") -> StoredRows:
        """Return all whole rows, or those that `experiment` lists, under the names and in the order it gives them.

        Raises:
            ValueError: For an experiment that is not listed.
        """
        if experiment:
            return self._read_listed(kind, experiment)
        keys = [path.stem for path in _listed(self.out / _ROW_FOLDERS[kind]) if path.suffix == ".json"]
        return self._collect(kind, [{"key": key} for key in sorted(keys)])

    def _read_listed(self, kind: str, experiment: str) -> StoredRows:
        known = self.experiments()
        if experiment not in known:
            raise ValueError(f"{self.out}: no experiment {experiment!r}; there are: {', '.join(known)}")
        return self._collect(kind, known[experiment][_ROW_FOLDERS[kind]])

    def _collect(self, kind: str, listed: list[dict[str, Any]]) -> StoredRows:
        rows, problems = [], []
        for entry in listed:
            try:
                row = self.row(kind, entry["key"])
            except ValueError as error:
                problems.append(f"left out: {error}")
                continue
            if row is not None:
                rows.append(row | entry)
        return StoredRows(rows=tuple(rows), problems=tuple(problems))

    def missing(self, kind: str, experiment: str) -> int:
        """Return the number of rows that `experiment` lists and that are not there."""
        return sum(not self.has(kind, entry["key"]) for entry in self.experiments()[experiment][_ROW_FOLDERS[kind]])

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

    def log(self, key: str) -> Path:
        """Return the path of a run's log."""
        return self.out / "logs" / f"{key}.log"

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

    # --- what is made from the rows -----------------------------------------------------------------------------------

    def write_tables(self) -> list[Path]:
        """Write results.csv, measures.csv and provenance.csv from the rows; unchanged files are not touched.

        Returns:
            Their paths.
        """
        with self.lock():
            experiments = self.experiments()
            runs, measures = self.read("run").rows, self.read("measure").rows
            texts = {
                "results.csv": csv_export.results_csv(runs, experiments),
                "measures.csv": csv_export.measures_csv(measures, experiments),
                "provenance.csv": csv_export.provenance_csv((*runs, *measures)),
            }
            for name, text in texts.items():
                path = self.out / name
                if not path.exists() or path.read_bytes() != text.encode():
                    atomic_write(path, text.encode(), alone=True)
        return [self.out / name for name in texts]


def utc_now() -> str:
    """Return this instant in UTC, ISO 8601 to the millisecond."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def set_aside(path: Path, why: str) -> Path:
    """Rename `path` to `NAME.why-N` with the first free N, and return the new path."""
    number = 1
    while (aside := path.with_name(f"{path.name}.{why}-{number}")).exists():
        number += 1
    path.rename(aside)
    sync_folder(path.parent)
    return aside


def _listed(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _all_entries(experiments: object) -> bool:
    """Return True if each experiment of a study.json lists its rows as `register` writes them."""
    return isinstance(experiments, dict) and all(
        isinstance(entry, dict)
        and all(
            isinstance(entry.get(folder), list) and all(isinstance(e, dict) and "key" in e for e in entry[folder])
            for folder in _ROW_FOLDERS.values()
        )
        for entry in experiments.values()
    )


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()
