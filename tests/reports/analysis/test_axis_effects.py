"""Axes of a grid: on the shipped rows, and on rows made by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from locations import ROOT
from synthetic import axes_of, cells, page, run_row, section, without_plots

from reports.analysis.axis_effects import TEXT, axis_effects_frame, axis_sentences
from reports.analysis.study_rows import Study, assemble_study
from reports.formats.data_frames import frame_from_csv, frame_to_csv

NOISE = (0.0, 0.004, -0.004, 0.002, -0.002)


def grid(effect_of_points: float = 0.0, cells: tuple[str, ...] = (), **changes: object) -> Study:
    names = cells or tuple(f"N={points} L={levels}" for levels in (1, 3) for points in (4, 16, 64))
    runs = []
    for place, name in enumerate(names):
        moved = 0.4 + effect_of_points * ("N=64" in name) + 0.1 * ("L=3" in name)
        runs += [run_row(name, seed, moved + noise * (1 + place % 3) / 2) for seed, noise in enumerate(NOISE)]
    return assemble_study("ablate", runs=runs, **changes)


@pytest.mark.parametrize(
    ("record", "friedman", "points_64", "points_4", "levels"),
    [  # as computed apart from this code
        ("quick-grid-1000-steps", 0.037, (-0.56, 0.0002), (-4.13, 0.50), (0.22, 0.50)),
    ],
)
def test_the_shipped_grids(
    record: str,
    friedman: float,
    points_64: tuple[float, float],
    points_4: tuple[float, float],
    levels: tuple[float, float],
) -> None:
    rows = pd.read_csv(ROOT / "reports/records" / record / "results.csv").to_dict("records")
    runs = [run_row(row["variant"], row["seed"], row["miou"]) for row in rows]
    frame = axis_effects_frame(assemble_study("ablate", runs=runs)).set_index(["axis", "level"])
    assert frame["p_chi_squared"].iloc[0] == pytest.approx(friedman, abs=0.001)
    for contrast, (difference, p) in ((("N", "64"), points_64), (("N", "4"), points_4), (("L", "3"), levels)):
        assert frame.loc[contrast, "difference"] == pytest.approx(difference, abs=0.006)
        assert frame.loc[contrast, "p"] == pytest.approx(p, rel=0.4 if p < 0.001 else 0.02)


def test_contrasts_are_of_two_levels_or_against_the_controls() -> None:
    frame = axis_effects_frame(grid(effect_of_points=-0.05))
    assert frame[["axis", "level", "base"]].fillna("").to_numpy().tolist() == [
        ["all cells", "", ""],
        ["N", "4", "16"],
        ["N", "64", "16"],
        ["L", "3", "1"],
    ]
    assert frame["verdict"].tolist() == ["cells differ", "no difference seen", "lower", "higher"]
    assert frame["difference"].tolist()[2:] == [pytest.approx(-5), pytest.approx(10)]
    assert frame["n"].tolist() == [5, 10, 10, 15]
    assert axis_effects_frame(grid(control="N=4 L=1"))["base"].tolist()[1:] == ["4", "4", "1"]


def test_a_difference_that_every_cell_hides_is_seen_by_axis() -> None:
    """What two cells of five seeds cannot show, the axis shows over its strata, and verdict and interval agree."""
    frame = axis_effects_frame(grid(effect_of_points=-0.006))
    line = frame[frame["level"] == "64"].iloc[0]
    assert line["verdict"] == "lower"
    assert line["high"] <= 0
    unseen = frame[frame["verdict"] == "no difference seen"]
    assert ((unseen["low"] < 0) & (unseen["high"] > 0)).all()


def test_what_is_no_full_grid_has_no_axes() -> None:
    assert axis_effects_frame(grid(cells=("N=4 L=1", "N=16 L=1", "N=16 L=3"))).empty
    assert axis_effects_frame(grid(cells=("N=4", "N=16"))).empty
    assert axis_effects_frame(assemble_study("ablate", runs=[])).empty
    assert list(axis_sentences(axis_effects_frame(grid(cells=("N=4", "N=16"))))) == []


def test_a_control_beside_the_grid_is_no_cell_of_it() -> None:
    study = grid()
    none = [run_row("none", seed, 0.3, axes={"encoder_self": "none"}) for seed in range(5)]
    joined = assemble_study("ablate", runs=[*study.runs, *none], control="none")
    frame = axis_effects_frame(joined)
    assert frame["base"].tolist()[1:] == ["4", "4", "1"]


def test_a_cell_without_values_leaves_its_stratum_out() -> None:
    runs = [run for run in grid().runs if axes_of(run["variant"]) != {"points": 4, "levels": 3}]
    runs += [run_row("N=4 L=3", 0, None)]
    frame = axis_effects_frame(assemble_study("ablate", runs=runs))
    assert frame[["axis", "n"]].to_numpy().tolist() == [["N", 5], ["N", 10], ["L", 10]]


def test_sentences_of_a_csv_file_are_those_of_the_frame(tmp_path: Path) -> None:
    frame = axis_effects_frame(grid(effect_of_points=-0.05))
    path = tmp_path / "axes.csv"
    path.write_text(frame_to_csv(frame))
    said = list(axis_sentences(frame))
    assert list(axis_sentences(frame_from_csv(path, text=TEXT))) == said
    assert said[0].startswith("The cells of the grid differ")
    assert said[1].startswith("By axis, a difference is seen in N=64 against 16 (-5.00 points, ")
    assert said[2].startswith("By axis, none is seen in N=4 against 16 (")


def test_the_report_has_a_table_by_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)
    text = page(grid(effect_of_points=-0.05))
    lines = cells(section(text, "By axis, measured"))
    assert [line[:2] for line in lines[1:]] == [
        ["all cells", "cells differ"],
        ["N=4 against 16", "no difference seen"],
        ["N=64 against 16", "lower"],
        ["L=3 against 1", "higher"],
    ]
    assert "By axis, a difference is seen in N=64 against 16" in text
