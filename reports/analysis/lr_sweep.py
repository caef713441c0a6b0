"""Learning rates that a study's rows were given: which were tried, which is each row's, and whether it is interior."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.units import count_of
from reports.analysis import study_rows
from reports.analysis.rate_choice import (
    EXTENSION_FACTOR,
    FIRST_SEEDS,
    FURTHER_SEEDS,
    LR_SWEEP_KIND,
    MAX_EXTENSIONS,
    RateScore,
    choose_rate,
    row_of_candidate,
    score_rates,
)
from reports.analysis.study_rows import Row, Study
from reports.formats.data_frames import make_frame

INTERIOR = "interior"


def variants_by_lr(study: Study) -> dict[float, list[str]]:
    """Return the variants by the learning rate that they were trained at, lowest first; {} where no run says it."""
    groups: dict[float, list[str]] = {}
    for variant in study.variants:
        rate = next((lr for run in study.runs_of(variant) if (lr := _rate_of(run)) is not None), None)
        if rate is not None:
            groups.setdefault(rate, []).append(variant)
    return dict(sorted(groups.items()))


def _rate_of(run: Row) -> float | None:
    """Return the rate of a run: of its axes or, where these do not name it, of its settings."""
    rate = study_rows.number_at(run, "axes", "lr")
    return study_rows.number_at(run, "settings", "train", "lr") if rate is None else rate


def rate_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per row and rate that was tried, of a study that chooses rates; else an empty one.

    Returns:
        `learned` counts the seeds that learned to tell look-alikes apart, all of them on other data; `miou` is the mean
        of those, in percent points, missing where the rate is out. `outcome` is "chosen", how a run ended that did not
        end well, or "". `position` of the chosen rate: "interior", or that it is the lowest, the highest or the only
        one that was tried.
    """
    lines: list[dict[str, object]] = []
    for row, by_rate in _runs_by_row(study).items():
        chosen = choose_rate(by_rate)
        for score in sorted(score_rates(by_rate), key=lambda score: score.rate):
            is_chosen = score.rate == chosen
            line: dict[str, object] = {"row": row, "rate": score.rate, "seeds": score.seeds, "learned": score.learned}
            line |= {"miou": None if score.miou is None else 100 * score.miou}
            line |= {"outcome": "chosen" if is_chosen else score.status}
            lines.append(line | {"position": _position(score, [*by_rate]) if is_chosen else ""})
    columns = ["row", "rate", "seeds", "learned", "miou", "outcome", "position"]
    return make_frame(lines, columns, whole=("seeds", "learned"), text=("row", "outcome", "position"))


def best_lr_sentences(study: Study) -> Iterator[str]:
    """Yield the rate of each row of a study that chooses rates, how it was chosen, and the rows whose rate is the
    lowest or highest that was tried.
    """
    frame = rate_frame(study)
    if frame.empty:
        return
    chosen = frame[frame["outcome"] == "chosen"]
    split = study_rows.distinct_text(study_rows.value_at(run, "settings", "evaluation", "split") for run in study.runs)
    if len(chosen):
        by_rate = {rate: chosen[chosen["rate"] == rate] for rate in sorted(map(float, chosen["rate"]))}
        named = [f"{study_rows.value_text(rate)} for {_names(rows)}" for rate, rows in by_rate.items()]
        interior = f"interior for {(chosen['position'] == INTERIOR).sum()} of {count_of(len(chosen), 'row')}"
        yield f"Best on the split {split or 'val'}: {'; '.join(named)}; {interior}."
    for word in ("lowest", "highest"):
        rows = chosen[chosen["position"] == f"{word} tried"]
        if len(rows):
            yield f"The {word} rate that was tried is best for {_names(rows)}: a better one may lie beyond."
    only = chosen[chosen["position"] == "only one tried"]
    if len(only):
        yield f"One rate alone was tried for {_names(only)}."
    none = [row for row, lines in frame.groupby("row", sort=False) if not (lines["outcome"] == "chosen").any()]
    if none:
        yield f"No rate ended well for {', '.join(map(str, none))}."
    yield _how_chosen(study)


def has_own_seeds(study: Study) -> bool:
    """Return True if a study that chooses rates has seeds that no other study uses."""
    return all(seed >= FIRST_SEEDS[0] for seed in study.seeds)


def _how_chosen(study: Study) -> str:
    seeds = ", ".join(map(str, study.seeds))
    if not has_own_seeds(study):
        return f"These rates were tried on seeds {seeds}, which the study at the chosen rates has too."
    return (
        f"Chosen on seeds of their own: {FIRST_SEEDS[0]} and {FIRST_SEEDS[1]} at every rate, {FURTHER_SEEDS[0]} and "
        f"{FURTHER_SEEDS[1]} too at the best two of each row. A rate at which more seeds learned to tell look-alikes "
        "apart is better, then one with the higher mean mIoU of these. While the best was the lowest or the highest, "
        f"the next rate was tried, a factor of {EXTENSION_FACTOR:g} beyond, up to {MAX_EXTENSIONS} times each way."
    )


def _runs_by_row(study: Study) -> dict[str, dict[float, list[Row]]]:
    """Return the runs of a study that chooses rates by row and rate; {} for any other study."""
    rows: dict[str, dict[float, list[Row]]] = {}
    if study.kind == LR_SWEEP_KIND:
        for rate, variants in variants_by_lr(study).items():
            for variant in variants:
                rows.setdefault(row_of_candidate(variant), {})[rate] = [*study.runs_of(variant)]
    order = dict.fromkeys(map(row_of_candidate, study.variants))
    return {row: rows[row] for row in order if row in rows}


def _position(best: RateScore, tried: list[float]) -> str:
    if len(tried) == 1:
        return "only one tried"
    return {min(tried): "lowest tried", max(tried): "highest tried"}.get(best.rate, INTERIOR)


def _names(rows: pd.DataFrame) -> str:
    return ", ".join(rows["row"])
