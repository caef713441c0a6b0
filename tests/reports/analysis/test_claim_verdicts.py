"""The paper's claims judged on rows made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from locations import ROOT
from scipy import stats
from synthetic import measure_row, run_row

from reports.analysis.claim_verdicts import claims_frame, settled_claims
from reports.analysis.study_rows import Study, assemble_study
from reports.paper import figures
from reports.paper.claims import CLAIMS, STAND_INS
from reports.study.record import read_record
from reports.study.result_sections import claims_section

SPREAD = (0.000, 0.004, -0.004, 0.002, -0.002)


def study(means: dict[str, float], kind: str = "table 5", seeds: int = 5, measures: Any = ()) -> Study:
    runs = [run_row(v, s, mean + SPREAD[s]) for v, mean in means.items() for s in range(seeds)]
    return assemble_study(kind, runs=runs, planned=runs, measures=measures)


def lines(frame: pd.DataFrame, table: int, column: str = "mIoU") -> list[dict[str, Any]]:
    return frame[(frame["table"] == table) & (frame["column"] == column)].to_dict("records")


def test_the_ladder_agrees_disagrees_or_stays_open() -> None:
    ladder = {"baseline": 0.40, "+ pyramid features": 0.45, "+ spatial path": 0.451, "+ stronger backbone": 0.42}
    frame = claims_frame(study(ladder), 5)
    first, second, third = lines(frame, 5)
    assert [line["outcome"] for line in (first, second, third)] == ["agrees", "undetermined", "disagrees"]
    assert [line["quoted"] for line in (first, second, third)] == [2.7, 1.1, 4.4]
    assert [line["difference"] for line in (first, second, third)] == pytest.approx([5, 0.1, -3.1])
    assert first["unit"] == "points"
    assert first["n"] == 5
    theirs = stats.ttest_ind([45 + 100 * s for s in SPREAD], [40 + 100 * s for s in SPREAD], equal_var=False)
    interval = theirs.confidence_interval(1 - 0.05 / 3)  # three claims of the column, which hold at once
    assert (first["low"], first["high"]) == pytest.approx((interval.low, interval.high))
    assert first["p_holm"] == pytest.approx(3 * theirs.pvalue)
    assert second["detectable"] > 0.1
    assert [line["size"] for line in (first, second, third)] == [
        "below our interval",
        "above our interval",
        "above our interval",
    ]
    assert {line["outcome"] for line in lines(frame, 5, "pixAcc")} == {"agrees", "undetermined", "disagrees"}
    assert set(frame[frame["table"] != 5]["outcome"]) == {"not run"}


def test_a_margin_settles_what_neither_agrees_nor_disagrees() -> None:
    ladder = {"baseline": 0.40, "+ pyramid features": 0.45, "+ spatial path": 0.451, "+ stronger backbone": 0.42}
    made = study(ladder)
    open_frame = claims_frame(made, 5)
    least = lines(open_frame, 5)[1]["same_within"]
    theirs = stats.ttest_ind([45.1 + 100 * s for s in SPREAD], [45 + 100 * s for s in SPREAD], equal_var=False)
    ends = theirs.confidence_interval(0.9)  # two one-sided tests at 5 %
    assert least == pytest.approx(max(abs(ends.low), abs(ends.high)))
    for margin, outcome in ((0.99 * least, "undetermined"), (1.01 * least, "the same within the margin")):
        frame = claims_frame(replace(made, margin=margin), 5)
        assert [line["outcome"] for line in lines(frame, 5)] == ["agrees", outcome, "disagrees"]
        assert "the same within the margin" not in {line["outcome"] for line in lines(frame, 5, "pixAcc")}
        mine = frame[(frame["table"] == 5) & (frame["column"] == "mIoU")]
        assert [settled_claims(mine, factor * least) for factor in (0, 0.99, 1.01)] == [2, 2, 3]
        page = "\n".join(claims_section(5, frame, margin))
        assert f"the same within the margin of {margin:g} points of mIoU" in page


def test_only_claims_that_could_be_tested_are_a_family() -> None:
    frame = claims_frame(study({"baseline": 0.40, "+ pyramid features": 0.45}), 5)
    first, second, third = lines(frame, 5)
    assert first["p_holm"] == pytest.approx(first["p"])
    assert [line["outcome"] for line in (second, third)] == ["not run", "not run"]
    assert pd.isna(second["difference"])
    assert pd.isna(second["n"])


def test_a_grid_in_either_order_is_table_6() -> None:
    for form in ("N={} L={}", "L={1} N={0}"):
        means = {form.format(points, levels): 0.4 + points / 1000 for points in (4, 16) for levels in (1, 3)}
        frame = claims_frame(study(means, "ablate"), 6)
        outcomes = {line["claim"]: line["outcome"] for line in lines(frame, 6)}
        assert outcomes["16 points rather than 4 raise mIoU at L=1"] == "agrees"
        assert outcomes["three levels rather than one raise mIoU at N=16"] == "undetermined"
        assert outcomes["16 points rather than 64 raise mIoU at L=3"] == "not run"


def test_a_study_of_no_table_judges_nothing() -> None:
    frame = claims_frame(study({"baseline": 0.40, "+ pyramid features": 0.45}, "ablate"), None)
    assert len(frame) == len(CLAIMS)
    assert set(frame["outcome"]) == {"not run"}
    assert frame["difference"].isna().all()
    assert set(claims_frame(assemble_study("table 5", runs=[]), 5)["outcome"]) == {"not run"}


def test_one_seed_or_no_spread_leaves_a_claim_open() -> None:
    first, *_ = lines(claims_frame(study({"baseline": 0.40, "+ pyramid features": 0.45}, seeds=1), 5), 5)
    assert first["outcome"] == "undetermined"
    assert first["difference"] == pytest.approx(5)
    assert pd.isna(first["low"])
    assert pd.isna(first["detectable"])
    assert first["n"] == 1


def counted(variant: str, gmacs: float | None, parameters: int) -> dict[str, Any]:
    return measure_row(variant, metrics={"module_gmacs": gmacs, "parameters": parameters})


def test_counted_figures_are_compared_exactly() -> None:
    measures = [
        counted("Ours", 100.0, 94_000_000),
        counted("PSANet", 90.0, 1),
        counted("CCNet", 100.0, 1),
        counted("OCRNet", 120.5, 1),
        counted("EncNet", None, 1),
        counted("SETR", 300.0, 401_000_000),
    ]
    frame = claims_frame(study({}, "table 7", measures=measures), 7)
    found = {line["claim"]: line for line in lines(frame, 7, "GFLOPs")}
    assert found["fewer operations than PSANet"]["outcome"] == "disagrees"
    assert found["fewer operations than CCNet"]["outcome"] == "disagrees"
    assert found["fewer operations than OCRNet"]["outcome"] == "agrees"
    assert found["fewer operations than OCRNet"]["difference"] == -20.5
    assert pd.isna(found["fewer operations than OCRNet"]["p_holm"])
    assert found["fewer operations than EncNet"]["outcome"] == "not run"
    assert found["fewer operations than SETR"]["outcome"] == "agrees"
    assert pd.isna(found["fewer operations than SETR"]["quoted"])
    (parameters,) = lines(frame, 7, "#Params.")
    assert (parameters["outcome"], parameters["difference"]) == ("agrees", pytest.approx(-307))


def test_memory_of_a_processor_is_not_judged_by_that_of_a_gpu() -> None:
    rows = {"Ours, ResNet50": 0.4, "CCNet, ResNet50": 0.3}
    frame = claims_frame(study(rows, "table 8", measures=[measure_row(name) for name in rows]), 8)
    assert {line["outcome"] for line in lines(frame, 8, "Mem Cost")} == {"not run"}
    assert {line["outcome"] for line in lines(frame, 8)} == {"not run", "agrees"}


def test_a_claim_against_its_own_figures_says_so() -> None:
    frame = claims_frame(assemble_study("table 6", runs=[]), 6)
    said = frame[frame["claim"].str.contains("its own figures do not bear it out")]
    assert said["claim"].str.split(" (", regex=False).str[0].tolist() == [
        "three levels rather than one raise pAcc at N=64",
        "less memory than ANL, ResNet50",
    ]


def test_no_printed_figure_stands_in_the_frame() -> None:
    """Differences only: a value of ours never stands beside an absolute one of theirs."""
    means = {row: 0.4 + 0.01 * index for index, row in enumerate(figures.TABLES[5].rows)}
    frame = claims_frame(study(means), 5)
    assert frame[frame["table"] == 5]["difference"].abs().max() < 5
    assert frame[frame["unit"] == "points"]["quoted"].abs().max() < 10


def test_variants_on_another_backbone_stand_in_for_the_rows_of_table_8() -> None:
    means = {"deformable": 0.45, "Sparse Transformer": 0.40, "Longformer": 0.48, "dense": 0.3, "SETR": 0.2}
    found = {line["claim"]: line for line in lines(claims_frame(study(means, "table 8"), 8), 8)}
    assert found["higher mIoU than Sparse Transformer, ResNet50"]["outcome"] == "agrees"
    assert found["higher mIoU than Longformer, ResNet50"]["outcome"] == "disagrees"
    assert found["higher mIoU than Longformer, ResNet50"]["difference"] == pytest.approx(-3)
    assert found["higher mIoU than Reformer, ResNet50"]["outcome"] == "not run"
    assert found["higher mIoU than SETR, T-large"]["outcome"] == "not run"  # against DeiT, which nothing stands in for
    assert set(STAND_INS) < set(figures.TABLES[8].rows)


def test_a_claim_that_stays_open_may_be_of_a_size_that_we_refute() -> None:
    frame = claims_frame(read_record(ROOT / "reports/records/quick-grid-1000-steps"), 6).set_index(["column", "claim"])
    open_claims = frame.loc[[("mIoU", f"three levels rather than one raise mIoU at N={n}") for n in (4, 16, 64)]]
    assert set(open_claims["outcome"]) == {"undetermined"}
    assert open_claims["size"].fillna("").tolist() == ["", "above our interval", "above our interval"]
    near = frame.loc[("mIoU", "16 points rather than 64 raise mIoU at L=3")]
    assert (near["outcome"], near["size"]) == ("undetermined", "inside our interval")
    learning = claims_frame(read_record(ROOT / "reports/records/table-5"), 5).set_index(["column", "claim"])
    line = learning.loc[("mIoU", "adding spatial path raises mIoU")]
    assert (line["outcome"], line["size"]) == ("agrees", "below our interval")  # learning against not learning
