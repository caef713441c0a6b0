"""The report's section on context: shares, curves by distance, half-ranges, references; no other data have it."""

from __future__ import annotations

from typing import Any

import pytest
from synthetic import full_row, section

from reports.analysis.context import context_frame, cue_distance_frame
from reports.analysis.study_rows import Study, assemble_study
from reports.plots.cue_distance import draw_cue_distance
from reports.study.report import study_report_files

REFERENCES = {
    "blind_accuracy": 0.5,
    "unplaced_accuracy": 0.75,
    "told_accuracy": 1.0,
    "blind_miou": 0.619,
    "told_miou": 1.0,
}
FAR, NEAR, BLIND = [1.0, 0.98, 0.96, 0.94], [1.0, 0.9, 0.6, 0.5], [0.5, 0.51, 0.49, 0.5]


def context_row(variant: str, seed: int, curve: list[float], **changes: Any) -> dict[str, Any]:
    mean = sum(curve) / len(curve)
    row = full_row(variant, seed, 0.4 + 0.3 * mean, lookalike=mean)
    names = [str(8 * number) for number in range(1, len(curve) + 1)]
    row["metrics"] |= {
        "context_share": 2 * mean - 1,
        "cue_accuracy": dict(zip(names, curve, strict=True)),
        "cue_error": dict.fromkeys(names, 0.02),
        "cue_pixels": dict.fromkeys(names, 1000),
        "references": REFERENCES,
    }
    return row | changes


def study(seeds: int = 3) -> Study:
    curves = {"dense": FAR, "window": NEAR, "none": BLIND}
    return assemble_study(
        "ablate",
        runs=[
            context_row(name, seed, [value - 0.01 * seed for value in curve])
            for name, curve in curves.items()
            for seed in range(seeds)
        ],
    )


def test_curves_have_a_line_for_each_class_of_distance_with_the_interval_over_seeds() -> None:
    frame = cue_distance_frame(study())
    assert len(frame) == 3 * 4
    line = frame[(frame["variant"] == "window") & (frame["distance_from_px"] == 24)].iloc[0]
    assert (line["distance_below_px"], line["n"], line["pixels"]) == (32, 3, 3000)
    assert line["accuracy"] == pytest.approx(59)
    assert line["high"] - line["accuracy"] == pytest.approx(4.302653 / 3**0.5, rel=1e-5)  # Student's t of 2 degrees


def test_one_seed_has_the_interval_over_pictures() -> None:
    frame = cue_distance_frame(study(seeds=1))
    line = frame[(frame["variant"] == "window") & (frame["distance_from_px"] == 24)].iloc[0]
    assert (line["low"], line["high"]) == (pytest.approx(60 - 3.92), pytest.approx(60 + 3.92))
    assert frame["high"].max() == 100


def test_shares_and_half_ranges_beside_the_references() -> None:
    made = study()
    frame = context_frame(made, cue_distance_frame(made)).set_index("row")
    assert frame.loc["dense", "half_range_above_px"] == 36
    assert frame.loc["none", "half_range_px"] == 0
    # from 99 % at 12 px to 50 %: half the way is 74.5, between 89 % at 20 px and 59 % at 28 px
    assert frame.loc["window", "half_range_px"] == pytest.approx(20 + 8 * 14.5 / 30)
    assert frame.loc["window", "share"] == pytest.approx(100 * (2 * (0.75 - 0.01) - 1))
    assert frame.loc["window", "share_low"] < frame.loc["window", "share"] < frame.loc["window", "share_high"]
    assert frame.loc["blind":"told", "share"].tolist() == [0, 50, 100]
    assert frame.loc["blind":"told", "kind"].tolist() == ["derived"] * 3


def test_the_page_has_the_section_its_plot_and_its_tables() -> None:
    made = study_report_files(study())
    assert {"cue_distance.csv", "context.csv", "cue_distance.png", "cue_distance.svg"} <= set(made)
    text = section(made["report.md"].decode(), "Context recovered")
    assert "cue_distance.png" in text
    assert "no cue used" in text
    assert "above 36" in text
    assert "unplaced (derived)" in text
    assert "| 24 to 31 |" in text


def test_other_data_have_no_such_files() -> None:
    made = study_report_files(assemble_study("ablate", runs=[full_row("a", 0, 0.5, lookalike=0.9)]))
    assert not {name for name in made if name.startswith(("cue_distance", "context"))}
    assert "Context recovered" not in made["report.md"].decode()


@pytest.mark.parametrize("value", [None, [], {"8": None}, {"x": 0.5}, {"8": "high"}])
def test_malformed_curves_are_left_out(value: object) -> None:
    row = context_row("a", 0, FAR)
    row["metrics"]["cue_accuracy"] = value
    other = assemble_study("ablate", runs=[row, context_row("b", 0, NEAR)])
    assert set(cue_distance_frame(other)["variant"]) == {"b"}
    assert draw_cue_distance(cue_distance_frame(other), "measured").keys() == {"png", "svg"}
