"""From a study's folder to the files of its report."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile

from bench.results.store import Store, atomic_write
from reports.analysis.comparisons import control_variant
from reports.analysis.study_rows import Row, Study, assemble_study, value_at
from reports.study import qualitative, report

MAX_FOLDER_LETTERS = 100  # characters of a folder's name


def read_study(outs: Sequence[Path], experiment: str, control: str = "") -> Study:
    """Return the rows that `experiment` lists in the studies' folders, read together.

    Args:
        outs: Folders of the studies.
        experiment: Name of the experiment.
        control: Replaces the control that the experiment declares.

    Raises:
        ValueError: A folder is no study, none has such an experiment, rows of different presets or data would meet, or
            `control` is none of the variants.
    """
    stores = [store for store in map(Store, outs) if experiment in store.experiments()]
    if not stores:
        known = dict.fromkeys(name for out in outs for name in Store(out).experiments())
        places = ", ".join(map(str, outs))
        raise ValueError(f"{places}: no experiment {experiment!r}; there are: {', '.join(known)}")
    abouts = [store.experiments()[experiment] for store in stores]
    runs = [store.read("run", experiment) for store in stores]
    measures = [store.read("measure", experiment) for store in stores]
    rows = [row for records in runs for row in records.rows]
    _refuse_mixture(rows)
    commands = [*(about.get("command") for about in abouts), *(row.get("command") for row in rows)]
    planned = {(entry["variant"], entry["seed"]): entry for about in abouts for entry in about["runs"]}
    study = assemble_study(
        abouts[0].get("kind", experiment),
        runs=rows,
        measures=[row for records in measures for row in records.rows],
        planned=planned.values(),
        commands=[command for command in commands if command],
        control=control or abouts[0].get("control"),
        problems=[problem for records in (*runs, *measures) for problem in records.problems],
    )
    if control and control not in study.variants:
        raise ValueError(f"--control {control}: {experiment} has {', '.join(study.variants)}")
    return study


def write_report(
    outs: Path | Sequence[Path], experiment: str, *, control: str = "", with_pictures: bool = True
) -> list[Path]:
    """Write the report of one experiment to `report/EXPERIMENT/` in the study's folder and return its files, pages
    first.

    The same rows give the same bytes.

    Args:
        outs: Folder or folders of the study. Of several, whose rows are read together, the first that has the
            experiment takes the report.
        experiment: Name of the experiment.
        control: Replaces the control that the experiment declares.
        with_pictures: False leaves out every picture of the data, whose licence may forbid it; an old `pictures.png` is
            removed.

    Raises:
        ValueError: As `read_study`.
        OSError: The report cannot be written.
    """
    outs = [outs] if isinstance(outs, Path) else list(outs)
    study = read_study(outs, experiment, control)
    drawn = None
    if with_pictures:
        loaded = qualitative.load_pictures(outs, study)
        study = replace(study, problems=(*study.problems, *loaded.problems))
        drawn = qualitative.draw_pictures(loaded.arrays, control_variant(study))
    home = next(out for out in outs if experiment in Store(out).experiments())
    folder = report_folder(home, experiment)
    if not with_pictures:
        (folder / report.PICTURES_FILE).unlink(missing_ok=True)
    return write_files(folder, report.study_report_files(study, drawn))


def writable_folder(folder: Path) -> Path:
    """Return the folder after a trial write; it is made if need be. Call it before a long measurement.

    Raises:
        OSError: Nothing can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        return folder


def write_files(folder: Path, made: Mapping[str, bytes]) -> list[Path]:
    """Write a report's files to `folder` and return their paths, pages first.

    Raises:
        OSError: They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(made, key=lambda name: (not name.startswith("report."), name.endswith(".html"), name))
    return [atomic_write(folder / name, made[name]) for name in names]


def _refuse_mixture(rows: Iterable[Row]) -> None:
    mixture = {(str(row.get("preset")), str(value_at(row, "settings", "data"))) for row in rows}
    if len(mixture) > 1:
        kinds = "; ".join(f"preset {preset}, data {data}" for preset, data in sorted(mixture))
        raise ValueError(f"these folders do not belong together: {kinds}")


def report_folder(out: Path, experiment: str) -> Path:
    """Return the folder of an experiment's report in the study's folder."""
    return out / "report" / experiment_folder(experiment)


def experiment_folder(experiment: str) -> str:
    """Return the experiment's name as a folder name without characters that a shell reads: `table-6` for `table 6`.

    A name too long for a file system is cut and marked by a digest.
    """
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", experiment).strip("-.") or "experiment"
    if len(name) <= MAX_FOLDER_LETTERS:
        return name
    return f"{name[:MAX_FOLDER_LETTERS]}-{hashlib.sha256(experiment.encode()).hexdigest()[:8]}"
