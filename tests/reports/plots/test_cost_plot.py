"""Accuracy against cost: what is drawn, what is left out and said, and that names hide nothing."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from matplotlib.figure import Figure
from PIL import Image
from synthetic import measure_row, run_row

from reports.analysis.study_rows import Study, assemble_study
from reports.plots import cost, style

LADDER = ("baseline", "+ pyramid features", "+ spatial path", "none")


def study(names: tuple[str, ...] = LADDER, *, seeds: int = 3, costs: dict[str, dict[str, Any]] | None = None) -> Study:
    """mIoU .40, .43, ...; GMACs .05, .06, ...; memory .7 for all, unless `costs` says otherwise."""
    runs = [run_row(name, seed, 0.4 + 0.03 * i + 0.01 * seed) for i, name in enumerate(names) for seed in range(seeds)]
    usual = {name: {"gmacs": 0.05 + 0.01 * i, "step_memory_gib": 0.7} for i, name in enumerate(names)}
    measures = [measure_row(name, metrics=metrics) for name, metrics in (usual | (costs or {})).items()]
    return assemble_study("table 5", runs=runs, measures=measures, planned=runs)


def texts(monkeypatch: pytest.MonkeyPatch, found: Study) -> list[str]:
    """Every text of the figure."""
    seen: list[str] = []

    def keep(figure: Figure) -> dict[str, bytes]:
        seen.extend(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))  # type: ignore[attr-defined]
        return {"png": b""}

    monkeypatch.setattr(style, "figure_files", keep)
    assert cost.draw_cost(found, "measured: scenes") == {"png": b""}
    return seen


def test_points_hold_cost_and_percents() -> None:
    points = cost.cost_points(study(), "gmacs")
    assert [(point.index, point.variant) for point in points] == list(enumerate(LADDER))
    assert points[1].cost == pytest.approx(0.06)
    assert points[1].values == pytest.approx({0: 43, 1: 44, 2: 45})
    assert points[1].summary.mean == pytest.approx(44)


@pytest.mark.parametrize("value", [None, 0, -1, float("nan"), "much"])
def test_variant_without_a_cost_is_left_out(value: object) -> None:
    found = study(costs={"none": {"gmacs": value, "step_memory_gib": 0.7}})
    assert [point.variant for point in cost.cost_points(found, "gmacs")] == list(LADDER[:3])
    assert len(cost.cost_points(found, "step_memory_gib")) == 4


def test_a_place_among_all_variants_decides_the_colour() -> None:
    found = study(costs={"baseline": {}})
    assert [point.index for point in cost.cost_points(found, "gmacs")] == [1, 2, 3]


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said = " ".join(texts(monkeypatch, study(costs={"none": {"gmacs": 0.1}, "baseline": {}})).copy()).replace("\n", " ")
    assert "Not drawn against number of operations, for want of a value: baseline." in said
    assert "Not drawn against memory, for want of a value: baseline, none." in said


def test_axes_say_where_numbers_come_from(monkeypatch: pytest.MonkeyPatch) -> None:
    every = {
        "gmacs": 0.05,
        "step_memory_gib": 0.02,
        "target_size": 480,
        "target_memory_gib": 1.2,
        "train_images_per_second": {"median": 400.0},
    }
    said = texts(monkeypatch, study(costs=dict.fromkeys(LADDER, every)))
    assert {
        "GMACs of one picture (derived)",
        "memory of a training step, GiB (predicted)",
        "mIoU, % (measured)",
    } <= set(said)
    assert said.count("+ spatial path") == len(cost.COST_AXES)
    assert any(text.startswith("measured: scenes\nRings and dashed line") for text in said)
    assert not any("Not drawn" in text for text in said)


def test_one_cost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(monkeypatch, study(costs={name: {"gmacs": 0.1} for name in LADDER}))
    assert "memory of a training step, GiB (predicted)" not in said
    assert any("Not drawn against memory, for want of a value: all variants." in text for text in said)


def test_nothing_to_draw() -> None:
    assert cost.draw_cost(study(costs={name: {} for name in LADDER}), "") == {}
    assert cost.draw_cost(assemble_study("ablate", runs=[]), "") == {}
    failed = assemble_study("ablate", runs=[run_row("a", 0, None)], measures=[measure_row("a")])
    assert cost.draw_cost(failed, "") == {}


def test_front_has_what_nothing_beats() -> None:
    def point(index: int, spent: float, mean: float) -> cost.CostPoint:
        return cost.CostPoint(index=index, variant=str(index), cost=spent, values={0: mean})

    points = [point(0, 1.0, 40), point(1, 2.0, 39), point(2, 2.0, 45), point(3, 3.0, 45), point(4, 0.5, 30)]
    assert [one.index for one in cost.pareto_front(points)] == [4, 0, 2]
    twins = [point(0, 1.0, 40), point(1, 1.0, 40)]
    assert [one.index for one in cost.pareto_front(twins)] == [0, 1]


def test_step_time_is_the_batch_by_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    speed = {"train_images_per_second": {"median": 400.0}}
    found = study(("a", "b"), costs={"a": speed, "b": speed})
    assert [point.cost for point in cost.cost_points(found, "step_ms")] == [20.0, 20.0]
    assert "training step, milliseconds (measured)" in texts(monkeypatch, found)


def test_axis_of_memory_names_the_target_size(monkeypatch: pytest.MonkeyPatch) -> None:
    target = {"target_size": 768, "target_memory_gib": 2.0}
    said = texts(monkeypatch, study(costs={name: target for name in LADDER}))
    assert "memory of a training step at 768 px, GiB (predicted)" in said


def test_many_or_long_names_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    long = ("a variant with quite a long name", "b")
    said = texts(monkeypatch, study(long))
    assert f"1  {long[0]}" in said
    assert said.count("2") == 2


@pytest.mark.parametrize(
    "found",
    [
        study(seeds=5),
        study(seeds=1),
        study(tuple(f"mechanism {i}" for i in range(20)), seeds=1),
        study(("$x^2 \\frac$", "a_b")),
        study(costs={"none": {"gmacs": 90.0, "step_memory_gib": 12.0}}),
        study(("one",)),
    ],
)
def test_every_plot_is_a_picture(found: Study) -> None:
    first, second = (cost.draw_cost(found, "measured: scenes") for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first["png"])) as picture:
        assert picture.width == style.FIGURE_WIDTH * style.DPI
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 20
    assert first["svg"].startswith(b"<?xml")
    assert not re.search(rb"<dc:date>|<script", first["svg"])


def test_no_two_variants_look_alike() -> None:
    assert len({tuple(sorted(style.series_style(index).items())) for index in range(36)}) == 36
