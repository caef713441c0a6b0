"""What faults of earlier versions left in rows is said, a sentence each; good rows are not accused."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import SETTINGS, full_row, measure_row, run_row

from reports.analysis import audit
from reports.analysis.audit import audit_sentences
from reports.analysis.study_rows import assemble_study
from reports.study.report import study_report_files
from reports.study.terminal import audit_lines


def sentences(*rows: dict[str, Any], kind: str = "ablate") -> list[str]:
    return list(audit_sentences(assemble_study(kind, runs=rows)))


def settings(**changes: Any) -> dict[str, Any]:
    """The settings, with other values in the model, or other data."""
    data = changes.pop("data", "scenes")
    return SETTINGS | {"data": data, "model": SETTINGS["model"] | changes}  # type: ignore[operator]


def row_of(seed: int, column: str, value: float | None) -> dict[str, Any]:
    """A run whose last probe or loss is `value`."""
    row = full_row("N=4", seed, 0.5 + seed / 10)
    row["training"][column][-1][1] = value
    return row


def test_good_rows_are_not_accused() -> None:
    good = [full_row("N=4", seed, 0.5 + seed / 10) for seed in range(2)]
    verified = full_row(
        "N=16", 0, 0.6, settings=settings(data="folder:x"), data={"digest": "a" * 16, "splits": {"val": "b" * 16}}
    )
    failed = run_row("N=16", 1, None)
    study = assemble_study("ablate", runs=[*good, verified, failed])
    assert list(audit_sentences(study)) == []
    assert list(audit_lines(study, always=True)) == ["audit: nothing found in 4 runs"]
    assert list(audit_lines(study, always=False)) == []


@pytest.mark.parametrize("column", ["probe", "curve"])
def test_probes_and_losses_that_are_not_finite(column: str) -> None:
    (said,) = sentences(row_of(0, column, None), row_of(1, column, 0.1))
    assert said == f"1 run (N=4): {audit.NON_FINITE}; {audit.AGAIN}"


def test_look_alikes_that_a_data_set_does_not_have_are_no_fault() -> None:
    row = full_row("N=4", 0, 0.5)
    assert row["training"]["probe"][0][2] is None
    assert sentences(row) == []


def test_rows_of_old_metrics_and_of_one_class_alone() -> None:
    old = full_row("N=4", 0, 0.5)
    for name in ("interior_classes", "trimap_classes", "size_classes"):
        old["metrics"].pop(name, None)
    one = full_row("N=16", 0, 0.5)
    one["metrics"] = {**old["metrics"], "miou": 0.06, "iou": {"sky": 0.49, "box": 0.0, "pole": 0.0, "none": None}}
    assert sentences(old, one) == [
        f"1 run (N=16): {audit.ONE_CLASS}; {audit.AGAIN}",
        f"2 runs (N=4, N=16): {audit.OLD_REGIONS}; {audit.AGAIN}",
    ]


def test_rows_without_a_digest_of_their_data() -> None:
    rows = [full_row(f"N={points}", 0, 0.5, settings=settings(data="folder:x")) for points in (1, 2, 3, 4, 5)]
    assert sentences(*rows) == [f"5 runs (N=1, N=2, N=3 and 2 more): {audit.UNVERIFIED}; {audit.AGAIN}"]
    page = study_report_files(assemble_study("ablate", runs=rows))["report.md"].decode()
    headline, summary = page.split("##")[0].split("\n\n")[1:3]
    assert "data folder:x (data not verified), crops of 64 px" in headline
    assert "5 runs (N=1, N=2, N=3 and 2 more): have no digest of their data" in summary


def test_rows_of_table_8_whose_slots_were_replaced() -> None:
    def row(name: str, encoder: str, decoder: str, seed: int) -> dict[str, Any]:
        slots = settings(encoder_self=encoder, decoder_self=decoder)
        return full_row(name, seed, 0.5 + seed / 10, settings=slots, study="table 8 --row deformable")

    good = [row("deformable", "deformable", "deformable", 0), row("dense", "dense_math", "dense_math", 1)]
    assert sentences(*good) == []
    bad = row("deformable", "mymod:Mine", "deformable", 2)
    assert sentences(*good, bad) == [f"1 run (deformable): {audit.MISLABELLED}"]
    assert sentences(bad | {"study": "ablate"}) == []


def test_measures_of_a_users_attention_that_were_counted_short() -> None:
    def measure(name: str, attention: str, **metrics: Any) -> dict[str, Any]:
        row = measure_row(name, settings=settings(encoder_self=attention, decoder_self="deformable"))
        return row | {"metrics": row["metrics"] | metrics}

    old, new = measure("old", "mymod:Mine"), measure("new", "mymod:Mine", elementwise_gops=0.1)
    ours, failed = measure("ours", "dense_math"), measure("failed", "mymod:Mine", gmacs=None)
    study = assemble_study("ablate", runs=[], measures=[old, new, ours, failed])
    assert list(audit_sentences(study)) == [f"1 measure (old): {audit.UNDERCOUNTED}; {audit.AGAIN}"]
    page = study_report_files(study)["report.md"].decode()
    assert "1 measure (old): count the operations of a user's attention" in page.split("##")[0]


def test_one_run_under_two_names() -> None:
    def row(options: dict[str, Any], seed: int, miou: float) -> dict[str, Any]:
        name = " ".join(["encoder_self=longformer", *(f"{key}={value}" for key, value in options.items())])
        return full_row(name, seed, miou, settings=settings(attention_options=options))

    twins = [row(options, seed, 0.5 + seed / 10) for options in ({}, {"encoder_self.window": 0}) for seed in (0, 1)]
    other = row({"encoder_self.window": 7}, 0, 0.55)
    assert sentences(*twins, other) == [
        "encoder_self=longformer and encoder_self=longformer encoder_self.window=0 are the same runs under several "
        "names, equal to the bit: options at their defaults; count them once"
    ]
