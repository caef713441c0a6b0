from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from golden_pages import assert_golden
from matplotlib.figure import Figure

from reports.pages import scaling
from reports.plots import scaling as plots_scaling
from reports.plots import style

PROTOCOL = {
    "width": 256,
    "heads": 8,
    "dropout": 0.1,
    "base": {"side": 60, "levels": 1, "points": 16, "batch": 1},
    "rounds": 3,
    "threads": 2,
    "processor": "A Processor",
    "most_gmacs": 15.0,
    "most_gib": 2.0,
}


def record(attention: str, axis: str, at: int, **more: Any) -> dict[str, Any]:
    size = {"side": 60, "levels": 1, "points": 16, "batch": 1} | {axis: at}
    return {"attention": attention, "axis": axis, "at": at, **size, **more}


def seconds(median: float) -> dict[str, dict[str, float]]:
    spread = {"median": median, "q1": 0.9 * median, "q3": 1.1 * median, "n": 3}
    return {"forward": spread, "forward+backward": spread}


RECORDS = [
    record("deformable", "side", 30, peak=1 << 20, saved=1 << 19, gmacs=0.5, seconds=seconds(0.01)),
    record("deformable", "side", 60, peak=4 << 20, saved=1 << 21, gmacs=2.0, seconds=seconds(0.04)),
    record("dense_math", "side", 60, peak=900 << 20, saved=1 << 21, gmacs=7.5),
    record("deformable", "batch", 2, peak=8 << 20, saved=1 << 21, gmacs=4.0, seconds=seconds(0.08)),
    record("mine", "batch", 2, message="ValueError: no such thing"),
]
RANGE = {"attention": "deformable", "axis": "side", "sizes": 2, "from": 900, "to": 3600}
EXPONENTS = [RANGE | {"quantity": "peak", "exponent": 1.0}, RANGE | {"quantity": "forward", "exponent": 1.04}]


@pytest.fixture(scope="module")
def made() -> dict[str, bytes]:
    return scaling.scaling_report_files(RECORDS, EXPONENTS, PROTOCOL, "unept-bench scaling")


def test_the_page_says_what_is_predicted_derived_and_measured(made: dict[str, bytes]) -> None:
    page = made["report.md"].decode()
    assert_golden("scaling.md", page)
    for name in ("memory", "operations", "time"):
        assert f"](scaling-{name}.png)" in page
        assert made[f"scaling-{name}.png"].startswith(b"\x89PNG")


def test_the_tables_are_csv(made: dict[str, bytes]) -> None:
    first, *_, last = csv.DictReader(io.StringIO(made["scaling.csv"].decode()))
    assert (first["tokens"], first["peak_mib"], first["forward_backward_seconds_median"]) == ("900", "1", "0.01")
    assert (last["peak_mib"], last["message"]) == ("", "ValueError: no such thing")
    line = next(csv.DictReader(io.StringIO(made["exponents.csv"].decode())))
    assert (line["exponent"], line["sizes"], line["from"], line["to"]) == ("1", "2", "900", "3600")


def test_figures_have_neither_an_exponent_nor_a_sign_of_zero() -> None:
    slow = record("deformable", "side", 60, peak=1 << 20, saved=1 << 19, gmacs=0.5, seconds=seconds(1.5678))
    flat = RANGE | {"quantity": "peak", "exponent": -0.001}
    page = scaling.scaling_report_files([slow], [flat], PROTOCOL)["report.md"].decode()
    assert "1570 (1410 to 1720)" in page
    assert "| deformable | 0.00 (900 to 3600)" in page


NINE = [
    *("deformable", "sparse_transformer", "sparse_transformer, fixed", "longformer", "longformer, window2d"),
    *("reformer", "dense_fused", "dense_math", "none"),
]


def test_the_legend_of_all_attentions_lies_within_the_figure(monkeypatch) -> None:
    figures: list[Figure] = []
    monkeypatch.setattr(style, "figure_files", lambda figure: figures.append(figure) or {})
    plots_scaling.draw_scaling([record(name, "side", 60, peak=1 << 20) for name in NINE])
    (figure,) = figures
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_a_family_has_one_colour_and_its_members_look_different() -> None:
    looks = [plots_scaling.family_style(index, 0) for index in range(6)]
    assert len({look["color"] for look in looks}) == 1
    assert len({(look["marker"], str(look["linestyle"])) for look in looks}) == 6
    assert (
        plots_scaling.attention_family("longformer, window2d")
        == plots_scaling.attention_family("longformer")
        == "longformer"
    )
    assert plots_scaling.attention_family("dense_math") == plots_scaling.attention_family("dense_fused") == "dense"


def test_nothing_timed_makes_no_plot_of_time() -> None:
    made = scaling.scaling_report_files(RECORDS[2:3], [], PROTOCOL)
    assert "scaling-time.png" not in made
    assert "scaling-time.png" not in made["report.md"].decode()


def test_plain_lines() -> None:
    head, line = scaling.scaling_lines(EXPONENTS)
    assert head.split()[0] == "attention"
    assert line.split()[:2] == ["deformable", "1.00"]
