"""Traces that faults of earlier versions may have left in a study's rows: a sentence each, with what to do about it.

Rows of this version have none of these: their outputs and weights are checked, their data have a digest, and so on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from bench.results.rows import REGION_METRICS, content_key, counts_all_products, is_data_verified, json_value
from bench.units import count_of
from reports.analysis import study_rows
from reports.analysis.study_rows import Row, Study

NAMES_SHOWN = 3  # of variants
AGAIN = "the study's command makes them again"
SELF_SLOTS = ("encoder_self", "decoder_self")
MECHANISMS = {  # what the slots of a row of Table 8 hold, by the row's name
    "deformable": ("deformable",),
    "Sparse Transformer": ("sparse_transformer",),
    "Longformer": ("longformer",),
    "Reformer": ("reformer",),
    "dense, fused": ("dense_fused",),
    "dense": ("dense_math", "dense"),
    "none": ("none",),
}
NON_FINITE = "have a probe or a loss that is not finite and ended well: their weights may have been broken when scored"
ONE_CLASS = "predict one class alone and were made before outputs were checked: these may not have been finite"
UNVERIFIED = "have no digest of their data, which a study records today: data not verified"
OLD_REGIONS = (
    "have interior mIoU, trimap or IoU by object size by the old definition, in which one false pixel of a class that "
    "is absent counts as an IoU of 0: left out of tables"
)
UNDERCOUNTED = (
    "count the operations of a user's attention as release 0.1.0 did, without products that are written as "
    "multiplications and sums: its GMACs may be too low"
)
MISLABELLED = (
    "have the name of a row of Table 8 and another mechanism in their slots, set by --set: leave them out, and run the "
    "mechanism as a row of its own, --row module:Class"
)


def audit_sentences(study: Study) -> Iterator[str]:
    """Yield a sentence for each fault that the study's rows show, with the number of rows and what to do."""
    ok = [run for run in study.runs if study_rows.has_succeeded(run)]
    old = [run for run in ok if _has_old_metrics(run)]
    yield from _counted(list(filter(_has_non_finite_values, ok)), f"{NON_FINITE}; {AGAIN}")
    yield from _counted(list(filter(_predicts_one_class, old)), f"{ONE_CLASS}; {AGAIN}")
    yield from _counted([run for run in study.runs if not is_data_verified(run)], f"{UNVERIFIED}; {AGAIN}")
    yield from _counted(old, f"{OLD_REGIONS}; {AGAIN}")
    yield from _counted(list(filter(_is_mislabelled, study.runs)), MISLABELLED)
    measures = [row for row in study.measures.values() if not counts_all_products(row)]
    yield from _counted(measures, f"{UNDERCOUNTED}; {AGAIN}", "measure")
    for first, others in _equal_variants(ok).items():
        yield (
            f"{first} and {', '.join(others)} are the same runs under several names, equal to the bit: options at "
            "their defaults; count them once"
        )


def _counted(rows: Sequence[Row], fault: str, noun: str = "run") -> Iterator[str]:
    if rows:
        names = list(dict.fromkeys(str(row["variant"]) for row in rows))
        more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
        yield f"{count_of(len(rows), noun)} ({', '.join(names[:NAMES_SHOWN])}{more}): {fault}"


def _has_non_finite_values(run: Row) -> bool:
    """Return True if a probe's mIoU or a loss of the curve is null: so a number that is not finite is written."""
    return _has_null(run, "probe", "probe_columns", "miou") or _has_null(run, "curve", "curve_columns", "total")


def _has_null(run: Row, lines: str, titles: str, column: str) -> bool:
    values, columns = (study_rows.value_at(run, "training", name) for name in (lines, titles))
    if not isinstance(values, list) or not isinstance(columns, list) or column not in columns:
        return False
    index = columns.index(column)
    return any(isinstance(line, list) and line[index : index + 1] == [None] for line in values)


def _has_old_metrics(run: Row) -> bool:
    """Return True for a row of a version that neither checked outputs nor counted the classes of a region."""
    metrics = run.get("metrics") or {}
    return any(metrics.get(name) and classes not in metrics for name, classes in REGION_METRICS.items())


def _predicts_one_class(run: Row) -> bool:
    """Return True if at most one of several classes has an IoU above 0, as where every output is NaN."""
    ious = [value for value in (study_rows.value_at(run, "metrics", "iou") or {}).values() if value is not None]
    return len(ious) > 1 and sum(value > 0 for value in ious) <= 1


def _is_mislabelled(run: Row) -> bool:
    if "table 8" not in str(run.get("study", "")):
        return False
    name = str(run["variant"]).partition(" lr=")[0]
    model = study_rows.value_at(run, "settings", "model") or {}
    return name in MECHANISMS and any(model.get(slot) not in (*MECHANISMS[name], None) for slot in SELF_SLOTS)


def _equal_variants(runs: Sequence[Row]) -> dict[str, list[str]]:
    """Return the variants that differ in options alone and have the same metrics, by the first of them."""
    groups: dict[str, dict[str, str]] = {}  # name by options, for each setting and result
    for run in runs:
        settings = run.get("settings")
        if isinstance(settings, Mapping):
            model = settings.get("model", {})
            plain = {**settings, "model": {**model, "attention_options": {}}}
            same = content_key(json_value([run["seed"], plain, run.get("metrics")]))
            options = content_key(json_value(model.get("attention_options", {})))
            groups.setdefault(same, {}).setdefault(options, str(run["variant"]))
    equal: dict[str, list[str]] = {}
    for first, *others in (names.values() for names in groups.values()):
        if others:
            known = equal.setdefault(first, [])
            known += [name for name in others if name not in known]
    return equal
