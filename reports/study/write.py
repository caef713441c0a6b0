"""From a study's folder to the files of its report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.results.attention_trials import trial_warnings
from bench.results.rows import data_digest_of
from bench.results.store import Store
from reports.analysis.control import control_variant
from reports.analysis.study_rows import Row, Study, assemble_study, finite_number, first_variants, value_at
from reports.formats.report_files import report_folder, write_files
from reports.study import qualitative, report

Source = Path | Store  # a study's folder, or its rows as they are held


def read_study(outs: Sequence[Source], experiment: str, control: str = "", margin: float | None = None) -> Study:
    """Return the rows that `experiment` lists in the studies' folders, read together.

    Args:
        outs: Folders of the studies, or their stores.
        experiment: Name of the experiment.
        control: Replaces the control that the experiment declares.
        margin: Replaces its margin of equivalence, percent points of mIoU.

    Raises:
        ValueError: A folder is no study, none has such an experiment, rows of different presets or data would meet, or
            `control` is none of the variants.
    """
    stores = _stores_with(outs, experiment)
    abouts = [store.experiments()[experiment] for store in stores]
    runs = [store.read("run", experiment) for store in stores]
    measures = [store.read("measure", experiment) for store in stores]
    rows = [row for records in runs for row in records.rows]
    _refuse_mixture(rows)
    commands = [*(about.get("command") for about in abouts), *(row.get("command") for row in rows)]
    named = {row["key"]: row for row in rows}  # what a row says of itself is what counts
    entries = [named.get(entry["key"], entry) for about in abouts for entry in about["runs"]]
    planned = {(entry["variant"], entry["seed"]): entry for entry in entries if {"variant", "seed"} <= entry.keys()}
    study = assemble_study(
        abouts[0].get("kind", experiment),
        runs=rows,
        measures=[row for records in measures for row in records.rows],
        planned=planned.values(),
        commands=[command for command in commands if command],
        control=control or abouts[0].get("control"),
        margin=margin or finite_number(abouts[0].get("margin")),
        rate_split=abouts[0].get("rate_split"),
        warnings=[warning for store in stores for warning in trial_warnings(store.out, rows)],
        problems=[problem for records in (*runs, *measures) for problem in records.problems],
    )
    if control and control not in study.variants:
        raise ValueError(f"--control {control}: {experiment} has {', '.join(study.variants)}")
    return study


def write_report(
    outs: Source | Sequence[Source],
    experiment: str,
    *,
    control: str = "",
    margin: float | None = None,
    with_pictures: bool = True,
) -> list[Path]:
    """Write the report of one experiment to `report/EXPERIMENT/` in the study's folder and return its files, pages
    first.

    The same rows give the same bytes. Processes that report one experiment at once do so one after the other.

    Args:
        outs: Folder or folders of the study, or their stores. Of several, whose rows are read together, the first that
            has the experiment takes the report.
        experiment: Name of the experiment.
        control: Replaces the control that the experiment declares.
        margin: Replaces its margin of equivalence, percent points of mIoU.
        with_pictures: False leaves out every picture of the data, whose licence may forbid it; an old `pictures.png` is
            removed.

    Raises:
        ValueError: As `read_study`.
        OSError: The report cannot be written.
    """
    stores = _stores_with([outs] if isinstance(outs, Path | Store) else outs, experiment)
    folder = report_folder(stores[0].out, experiment)
    with stores[0].lock():
        study = read_study(stores, experiment, control, margin)
        drawn = None
        if with_pictures:
            shown = first_variants(study, report.MAX_DRAWN, control_variant(study))
            loaded = qualitative.load_pictures([store.out for store in stores], shown)
            study = replace(study, problems=(*study.problems, *loaded.problems))
            drawn = qualitative.draw_pictures(loaded.arrays, control_variant(study))
        else:
            (folder / report.PICTURES_FILE).unlink(missing_ok=True)
        return write_files(folder, report.study_report_files(study, drawn))


def _stores_with(outs: Sequence[Source], experiment: str) -> list[Store]:
    """Return the stores that list the experiment. Raises ValueError where none does."""
    stores = [out if isinstance(out, Store) else Store(out) for out in outs]
    listing = [store.experiments() for store in stores]
    listed_in = [store for store, known in zip(stores, listing, strict=True) if experiment in known]
    if not listed_in:
        names = ", ".join(dict.fromkeys(name for known in listing for name in known))
        folders = ", ".join(str(store.out) for store in stores)
        raise ValueError(f"{folders}: no experiment {experiment!r}; there are: {names}")
    return listed_in


def _refuse_mixture(rows: Iterable[Row]) -> None:
    """Refuse rows of different presets or data: of different digests, or of different paths where one has no digest."""
    rows = list(rows)
    mixture = {(str(row.get("preset")), str(value_at(row, "settings", "data")), data_digest_of(row)) for row in rows}
    presets, paths, digests = ({kind[part] for kind in mixture} for part in range(3))
    splits: dict[str, set[str]] = {}
    for row in rows:
        for split, digest in (value_at(row, "data", "splits") or {}).items():
            splits.setdefault(split, set()).add(digest)
    other_data = any(len(known) > 1 for known in splits.values()) or (len(paths) > 1 and "" in digests)
    if len(presets) > 1 or other_data:
        kinds = "; ".join(
            f"preset {preset}, data {data}{f', digest {digest}' * bool(digest)}"
            for preset, data, digest in sorted(mixture)
        )
        raise ValueError(f"these folders do not belong together: {kinds}")
