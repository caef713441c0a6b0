"""Training curves: which numbers are drawn, for whom, and that odd rows do no harm."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from synthetic import run_row

from reports.analysis.study_rows import Study, assemble_study
from reports.plots import curves as plots_curves
from reports.plots import style
from reports.plots.curves import mean_curve, training_curves

PROBE = [[0, 0.1, None], [50, 0.4, 0.5], [100, 0.7, 0.9]]
CURVE = [[0, 2.0, 1.0], [10, 1.5, 0.5]]


def study(*training: dict[str, Any], variants: tuple[str, ...] = ("none",)) -> Study:
    """A run of each variant for each of these training records."""
    runs = [run_row(name, seed, 0.4, training=record) for name in variants for seed, record in enumerate(training)]
    return assemble_study("ablate", runs=runs, planned=runs)


def test_probed_scores_in_percent() -> None:
    found = training_curves(study({"probe": PROBE, "curve": CURVE}, {"probe": PROBE[:2]}))
    assert found
    assert found.title.startswith("mIoU")
    assert found.lines["none"][0] == ((0, 10), (50, 40), (100, 70))
    assert list(found.lines["none"]) == [0, 1]
    assert len(found.lines["none"][1]) == 2


def test_losses_where_nothing_was_probed() -> None:
    found = training_curves(study({"curve": CURVE}, {"probe": []}))
    assert found
    assert found.title == "training loss"
    assert found.lines == {"none": {0: ((0, 2.0), (10, 1.5))}}


def test_columns_may_stand_elsewhere() -> None:
    moved = {"probe": [[0.9, 0.5, 7]], "probe_columns": ["lookalike_accuracy", "miou", "step"]}
    found = training_curves(study(moved))
    assert found
    assert found.lines["none"][0] == ((7, 50),)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"probe": None},
        {"probe": "x"},
        {"probe": 3},
        {"probe": [None, 3, [], [1], [1, None], ["a", 0.5], [1, float("nan")], {"step": 1}]},
        {"curve": [[0]], "curve_columns": "step"},
    ],
)
def test_nothing_to_draw(record: dict[str, Any]) -> None:
    assert training_curves(study(record)) is None
    assert plots_curves.draw_curves(study(record), "") == {}


def test_damaged_entries_are_left_out() -> None:
    found = training_curves(study({"probe": [[0, 0.1], [10, None], None, [20, 0.3]]}))
    assert found
    assert found.lines["none"][0] == ((0, 10), (20, 30))


def test_failed_runs_show_how_far_they_came() -> None:
    run = run_row("none", 0, None, training={"probe": PROBE[:2]})
    found = training_curves(assemble_study("ablate", runs=[run]))
    assert found
    assert len(found.lines["none"][0]) == 2


def test_mean_of_the_steps_that_all_have() -> None:
    assert mean_curve([((0, 10.0), (5, 20.0), (9, 1.0)), ((0, 30.0), (5, 30.0))]) == ((0, 20), (5, 25))
    assert mean_curve([((0, 10.0),)]) == ()
    assert mean_curve([((0, 10.0),), ((1, 10.0),)]) == ()


def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(plots_curves.style, "write_caption", lambda *arguments: said.append(arguments[1]))
    runs = [run_row(f"v{i}", 0, 0.4, training={"probe": PROBE}) for i in range(26)]
    runs.append(run_row("old", 0, 0.4))
    assert plots_curves.draw_curves(assemble_study("ablate", runs=runs), "measured: scenes")
    assert said == ["measured: scenes\nNo curve: old.\nThe first 24 of 26 variants."]


@pytest.mark.parametrize(
    "found",
    [
        study({"probe": PROBE}),
        study(*[{"probe": PROBE}] * 5, variants=("N=4", "N=16", "N=64", "$\\frac$")),
        study(*[{"curve": CURVE}] * 8, variants=("a variant with a name of very many words, more than one line", "b")),
        study({"probe": [[0, 0.5]]}, {"probe": [[0, 0.5]]}, variants=tuple("abcde")),
    ],
)
def test_every_plot_is_a_picture(found: Study) -> None:
    first, second = (plots_curves.draw_curves(found, "measured: scenes") for _ in range(2))
    assert first == second
    with Image.open(io.BytesIO(first["png"])) as picture:
        assert picture.width == style.FIGURE_WIDTH * style.DPI
        assert len(picture.convert("RGB").getcolors(2**24) or ()) > 20
    assert first["svg"].startswith(b"<?xml")


def test_each_seed_has_a_look_of_its_own_where_colours_last() -> None:
    looks = [plots_curves.seed_style(rank, 6) for rank in range(6)]
    assert len({str(look["linestyle"]) for look in looks}) == len({look["color"] for look in looks}) == 6
    assert plots_curves.seed_style(0, 7) == plots_curves.seed_style(6, 7)
