"""A study's folder: one immutable JSON file per run, and everything else made from those files.

    OUT/study.json            preset and data of the folder, and the experiments that were run in it
    OUT/runs/KEY.json         one row per run          OUT/measures/KEY.json   one row per measured variant
    OUT/runs/KEY.lock         its claim                OUT/logs/KEY.log        OUT/checkpoints/KEY/
    OUT/pictures/KEY.npz      some pictures with what the run predicted for them
    OUT/modules/DIGEST/...    a user's own module and what it imports, as the runs use it
    OUT/trials/KEY.json       what was found when a user's attention was tried before it trained
    OUT/data/DIGEST.json      digests of the files that runs were trained and scored on
    OUT/results.csv           scores: what a repetition gives again, bit for bit
    OUT/measures.csv          operations, memory, time
    OUT/provenance.csv        when, how long, and where each row was made

One folder holds one preset and one data set, and any number of experiments (grids, tables of the paper). Rows are found
by key, so a cell that two experiments share is run once; study.json lists for each experiment the keys of its rows and
the names it gives them (`study_file`), and a report takes the rows that its experiment lists. A row appears whole or
not at all: it is written under a temporary name, synced and renamed, by whoever holds its claim. The claim is a file
lock that dies with its process. A damaged row is renamed to KEY.json.damaged-1 and never deleted, a row that a retry
replaces likewise to KEY.json.superseded-1.

Reading a study imports no torch.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.results import csv_export, study_file
from bench.results.data_digest import has_files
from bench.results.row_files import RowFiles, StoredRows, files_in, set_aside
from bench.results.rows import KINDS, SCHEMA, Row
from bench.results.shapes import read_json
from bench.results.study_file import FORMAT, ROW_FOLDERS, STUDY_FILE
from unept.utils.atomic_files import atomic_write
from unept.utils.file_locks import file_lock
from unept.utils.paths import special_file

_OWN = (STUDY_FILE, "study.lock", f"{STUDY_FILE}.tmp")
NO_DIGESTS: Mapping[str, str] = {}


class Store(RowFiles):
    """One study's folder (see the module). Creating a Store touches nothing; `open` creates the folder or refuses it.

    Args:
        out: The folder.
        keep: Hold every row that was read, so that it is not read again while its file stays the same.
    """

    # --- the folder ---------------------------------------------------------------------------------------------------

    def open(self, *, preset: str, data: str, splits: Mapping[str, str] = NO_DIGESTS) -> list[str]:
        """Create the folder, or check that it belongs to this preset and data.

        Args:
            preset: Name of the preset.
            data: Specification of the data set.
            splits: Digests of the data's splits; {} for generated scenes.

        Returns:
            Lines for the user, such as that a damaged study.json was set aside.

        Raises:
            ValueError: For a folder that belongs to something else.
            OSError: Where it cannot be written.
        """
        self.check(preset=preset, data=data, splits=splits)
        self.out.mkdir(parents=True, exist_ok=True)
        with self.lock():
            messages = self._mend(preset, data)
            study = self._study()
            if study["data"] != data:
                messages.append(f"the data are at {data} now, before at {study['data']}: the same content")
            known = {**study.get("data_splits", NO_DIGESTS), **splits}
            if (study["data"], study.get("data_splits", NO_DIGESTS)) != (data, known):
                self._write_study(study | {"data": data, "data_splits": known})
        for folder in (*ROW_FOLDERS.values(), "logs", "checkpoints"):
            (self.out / folder).mkdir(exist_ok=True)
        for leftover in files_in(self.out / "checkpoints"):  # of a worker that was killed just after it wrote its row
            if self.has("run", leftover.name):
                shutil.rmtree(leftover, ignore_errors=True)
        return messages

    def mend(self) -> list[str]:
        """Make study.json again where it is damaged: from what it lists of the rows, or from the rows alone.

        Returns:
            A line that says so, or none. A folder that is no study is left as it is.
        """
        if not any(map(self.keys, KINDS)) and not self._study():
            return []
        with self.lock():
            identity = self._identity()
            return self._mend(*identity) if identity else []

    def _mend(self, preset: str, data: str) -> list[str]:
        """Write study.json where it is absent, damaged, changed by another program, or of a version without digests."""
        path, study = self.out / STUDY_FILE, self._study()
        if study and study_file.is_intact(study):
            if "digest" not in study:
                self._write_study(study)
            return []
        rows = [row for kind in KINDS for row in self.read(kind).rows]
        aside = set_aside(path, "damaged").name if path.exists() else ""
        if study:
            self._write_study(study | {"experiments": study_file.with_names_of_rows(study["experiments"], rows)})
            return [
                f"{path} was changed by something else than this program: it does not match its digest; set aside as "
                f"{aside} and written again, with the rows' own names where it said otherwise"
            ]
        created = utc_now()
        experiments = study_file.experiments_of_rows(rows, created)
        fresh = {"format": FORMAT, "schema": SCHEMA, "preset": preset, "data": data, "created": created}
        self._write_study(fresh | {"experiments": experiments})
        if not aside and not experiments:
            return []
        state = f"is damaged; set aside as {aside} and made anew" if aside else "is gone; made anew"
        return [
            f"{path} {state} from the rows: no row is lost, and an experiment that shared all of its rows with others "
            "is listed again by its command"
        ]

    def _write_study(self, study: Mapping[str, Any]) -> None:
        atomic_write(self.out / STUDY_FILE, study_file.study_text(study), alone=True)

    def check(self, *, preset: str, data: str, splits: Mapping[str, str] = NO_DIGESTS) -> None:
        """Check, without touching anything, that the folder is free or for this preset and data.

        Data at another path are the same data where their splits have the same digests.

        Raises:
            ValueError: Names what the folder belongs to.
        """
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"{self.out} is a file: expected a folder; name another with --out")
        foreign = [path.name for path in files_in(self.out) if path.name not in _OWN]
        if not foreign and not (self.out / STUDY_FILE).exists():
            return
        identity = self._identity()
        if identity is None:
            first = sorted(foreign)[0] if foreign else STUDY_FILE
            raise ValueError(
                f"{self.out} is not empty and no study of this program (it holds {first}); name another with --out"
            )
        moved = has_files(data) and identity[1].partition(":")[0] == data.partition(":")[0] and self._has_data(splits)
        if identity != (preset, data) and not (identity[0] == preset and moved):
            raise ValueError(
                f"{self.out} belongs to preset {identity[0]}, data {identity[1]}; "
                f"this is preset {preset}, data {data}: name another folder with --out"
            )

    def _has_data(self, splits: Mapping[str, str]) -> bool:
        """Return True if the splits that the study's data and these have in common are there, and equal."""
        recorded = [row.get("data") for row in self.read("run").rows]
        of_rows = [data["splits"] for data in recorded if isinstance(data, Mapping) and "splits" in data]
        known = self._study().get("data_splits") or (of_rows[-1] if of_rows else NO_DIGESTS)
        common = known.keys() & splits.keys()
        return bool(common) and all(known[split] == splits[split] for split in common)

    def _identity(self) -> tuple[str, str] | None:
        """Return preset and data from study.json, else from the rows; None where neither tells."""
        study = self._study()
        if study:
            return study["preset"], study["data"]
        for row in self.read("run").rows:
            return row["preset"], row["settings"]["data"]
        if (self.out / STUDY_FILE).exists() and (self.out / ROW_FOLDERS["run"]).is_dir():
            raise ValueError(
                f"{self.out / STUDY_FILE} is damaged and there is no row to tell what it was; name another with --out"
            )
        return None

    def _study(self) -> dict[str, Any]:
        """Return study.json's content; {} where it is absent, damaged or not ours. ValueError for a newer schema."""
        try:
            if special_file(self.out / STUDY_FILE):
                return {}
            study = read_json((self.out / STUDY_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return {}
        if not isinstance(study, dict) or study.get("format") != FORMAT:
            return {}
        if study.get("schema") != SCHEMA:
            raise ValueError(f"{self.out / STUDY_FILE} has schema {study.get('schema')!r}, this program reads {SCHEMA}")
        return study if study_file.has_shape(study) else {}

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

    def register(
        self,
        name: str,
        experiment: Mapping[str, Any],
        *,
        measures: bool = True,
        keeps: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    ) -> None:
        """List `experiment` in study.json.

        Args:
            name: The name it is listed under.
            experiment: Its entry; `runs` and `measures` list the rows that belong to it.
            measures: False keeps the measures listed before: their keys are those of another machine.
            keeps: Returns True for a run listed before that stays listed though `experiment` does not have it.
        """
        with self.lock():
            study = self._study()
            assert study, "register comes after open"
            before = study["experiments"].get(name, {})
            entry = dict(experiment) | {"created": before.get("created", utc_now())}
            if not measures and before.get("variants") == entry["variants"]:
                entry["measures"] = before["measures"]
            own = {run["key"] for run in entry["runs"]}
            further = [run for run in before.get("runs", ()) if run["key"] not in own and keeps(run)]
            if further:
                entry["runs"] = [*entry["runs"], *further]
                entry["seeds"] = max(entry["seeds"], *(run["seed"] + 1 for run in further))
            if before != entry:
                study["experiments"][name] = entry
                self._write_study(study)

    def rename_listed(self, rows: Mapping[tuple[str, str], Row]) -> None:
        """List rows under other keys, and under other names where they have others now. Only under the folder's lock.

        Args:
            rows: Each row with its new key, by its kind and old key; a new name has its old one under `former`.
        """
        study = self._study()
        before = study_file.study_text(study)
        for experiment in study.get("experiments", {}).values():
            for kind, folder in ROW_FOLDERS.items():
                for entry in experiment[folder]:
                    row = rows.get((kind, entry["key"]))
                    if row is None:
                        continue
                    entry["key"] = row["key"]
                    old, new = row["former"].get("variant"), row["variant"]
                    if old and entry.get("variant") == old:
                        entry["variant"] = new
                        experiment["variants"] = [new if name == old else name for name in experiment["variants"]]
        if study_file.study_text(study) != before:
            self._write_study(study)

    # --- rows of an experiment ----------------------------------------------------------------------------------------

    def read(self, kind: str, experiment: str = "") -> StoredRows:
        """Return all whole rows, or those that `experiment` lists, under the names and in the order it gives them.

        Names that contradict a row are a problem, and the row keeps its own.

        Raises:
            ValueError: For an experiment that is not listed.
        """
        if experiment:
            return self._read_listed(kind, experiment)
        return self._collect(kind, [{"key": key} for key in self.keys(kind)])

    def _read_listed(self, kind: str, experiment: str) -> StoredRows:
        known = self.experiments()
        if experiment not in known:
            raise ValueError(f"{self.out}: no experiment {experiment!r}; there are: {', '.join(known)}")
        return self._collect(kind, known[experiment][ROW_FOLDERS[kind]], experiment)

    def _collect(self, kind: str, listed: list[dict[str, Any]], experiment: str = "") -> StoredRows:
        rows, problems = [], []
        for entry in listed:
            try:
                row = self.row(kind, entry["key"])
            except ValueError as error:
                problems.append(f"left out: {error}")
                continue
            if row is None:
                continue
            if not experiment or study_file.agrees(entry, row, experiment):
                rows.append(row | study_file.names_in(entry))
            else:
                rows.append(row)
                problems.append(f"{study_file.disagreement(entry, row)}: the row's own names are shown")
        return StoredRows(rows=tuple(rows), problems=tuple(problems))

    def missing(self, kind: str, experiment: str) -> int:
        """Return the number of rows that `experiment` lists and that are not there."""
        return sum(not self.has(kind, entry["key"]) for entry in self.experiments()[experiment][ROW_FOLDERS[kind]])

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
