"""Learning rates that a table's rows were given: which is each row's, and whether a better one may lie beyond."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from bench.config.fields import format_value
from reports.analysis import study_rows
from reports.analysis.study_rows import Study

LR_SWEEP_KIND = "rates"  # kind of a study whose variants are a table's rows at several learning rates
LR_SEPARATOR = " lr="


def candidate_name(row: str, lr: float) -> str:
    """Return the name of a table's row trained at one learning rate, as in `dense lr=0.001`."""
    return f"{row}{LR_SEPARATOR}{format_value(lr)}"


def row_of_candidate(variant: str) -> str:
    """Return the table's row that `candidate_name` made this name from."""
    return variant.rpartition(LR_SEPARATOR)[0]


def variants_by_lr(study: Study) -> dict[float, list[str]]:
    """Return the variants by the learning rate that they were trained at, lowest first; {} where rates do not vary."""
    groups: dict[float, list[str]] = {}
    for variant in study.variants:
        rate = next(
            (lr for run in study.runs_of(variant) if (lr := study_rows.number_at(run, "axes", "lr")) is not None),
            None,
        )
        if rate is not None:
            groups.setdefault(rate, []).append(variant)
    return dict(sorted(groups.items()))


def best_lr_sentences(study: Study) -> Iterator[str]:
    """Yield the best rate of each row of a rate sweep, and the rows whose best rate is the lowest or highest that was
    tried.
    """
    if study.kind != LR_SWEEP_KIND:
        return
    tried: dict[str, dict[float, float]] = {}
    for rate, variants in variants_by_lr(study).items():
        for variant in variants:
            if values := _all_values(study, variant):
                tried.setdefault(row_of_candidate(variant), {})[rate] = fmean(values)
    best: dict[float, list[str]] = {}
    for row, means in tried.items():
        best.setdefault(max(sorted(means), key=means.__getitem__), []).append(row)
    if best:
        yield (
            "Best on the validation split: "
            + "; ".join(f"{study_rows.value_text(rate)} for {', '.join(names)}" for rate, names in sorted(best.items()))
            + "."
        )
    for end, word in ((min, "lowest"), (max, "highest")):
        names = [row for rate, rows in best.items() for row in rows if rate == end(tried[row]) and len(tried[row]) > 1]
        if names:
            yield f"The {word} rate that was tried is best for {', '.join(names)}: a better one may lie beyond."


def _all_values(study: Study, variant: str) -> Sequence[float]:
    """mIoU of each run; none where a run did not end well, as the rate is out then."""
    runs = study.runs_of(variant)
    values = study_rows.metric_values(runs, "miou")
    return values if len(values) == len(runs) else ()
