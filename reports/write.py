"""From a study's folder to the files of its report."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from bench.store import Store
from reports import study_report
from reports.rows import Study, assemble

LONGEST = 100  # characters of a folder's name


def read_study(out: Path, experiment: str) -> Study:
    """The rows that `experiment` lists in the study's folder `out`.

    Raises ValueError if `out` is no study or has no such experiment.
    """
    store = Store(out)
    runs, measures = store.read("run", experiment), store.read("measure", experiment)
    about = store.experiments()[experiment]
    commands = [about.get("command"), *(row.get("command") for row in runs.rows)]
    return assemble(
        about.get("kind", experiment),
        runs=runs.rows,
        measures=measures.rows,
        planned=about["runs"],
        commands=[command for command in commands if command],
        problems=(*runs.problems, *measures.problems),
    )


def write_report(out: Path, experiment: str) -> list[Path]:
    """Write the report of one experiment of the study in `out`, to `out/report/EXPERIMENT/`; returns its files.

    The page comes first. The same rows give the same bytes. Raises ValueError if `out` is no study or has no such
    experiment, OSError where it cannot be written.
    """
    made = study_report.files(read_study(out, experiment))
    folder = out / "report" / folder_name(experiment)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(made, key=lambda name: (name != "report.md", name))
    return [_replace(folder / name, made[name]) for name in names]


def folder_name(experiment: str) -> str:
    """The experiment's name without blanks and whatever else a shell would read: `table 6` is `table-6`.

    A name too long for a file system is cut and told apart by a digest.
    """
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", experiment).strip("-.") or "experiment"
    if len(name) <= LONGEST:
        return name
    return f"{name[:LONGEST]}-{hashlib.sha256(experiment.encode()).hexdigest()[:8]}"


def _replace(path: Path, data: bytes) -> Path:
    """Put `data` in place of the file, so that a reader sees the old one or the new one, whole."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
