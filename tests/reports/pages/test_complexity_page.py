"""The complexity report from records that need no network."""

from __future__ import annotations

from typing import Any

import pytest
from golden_pages import assert_golden

from reports.pages import complexity
from reports.paper import figures
from reports.plots import complexity as plots_complexity

TIMES = {"inference": {"median": 1.5, "q1": 1.25, "q3": 2.0, "n": 3}}


def make(name: str, gmacs: float, *, millions: float = 50, quoted: str = "", side: int = 480, **more: Any) -> dict:
    parts = [{"name": "backbone", "parameters": int(millions * 1e6), "module_gmacs": gmacs, "gmacs": gmacs + 1}]
    counts = {"parameters": int(millions * 1e6), "module_gmacs": gmacs, "gmacs": gmacs + 1, "sampling_gmacs": 0.5}
    return {"name": name, "quoted": quoted, "size": [side, side], "parts": parts} | counts | more


@pytest.fixture
def records() -> list[dict]:
    return [
        make("CCNet", 244.7, millions=68.9, quoted="CCNet"),
        make("EncNet", 192.5, millions=55.05, quoted="EncNet"),
        make("PointRend", 63.3, millions=47.9, quoted="PointRend"),
        make("SETR", 280, millions=310, quoted="SETR"),
        make("Ours", 99.0, millions=94.8, quoted="Ours", times=TIMES),
        make("Ours, ResNet50", 138.4, millions=32.4),
        make("PointRend, large", 526.5, millions=47.9, side=1024),
    ]


def test_figures_are_reproduced_or_not(records: list[dict]) -> None:
    found = complexity.reproduction_frame(records).set_index("row")
    assert found.loc["CCNet", "operations"] == "reproduced"
    assert found.loc["CCNet", "gflops_difference"] == pytest.approx(0.1)
    assert found.loc["EncNet", "operations"] == "not reproduced"
    assert found.loc["EncNet", "parameters"] == "reproduced"
    assert found.loc["PointRend", "operations"] == "not reproduced; it is the figure at 1024x1024"
    assert found.loc["SETR", "operations"] == "not printed"
    assert found.loc["SETR", "parameters"] == "not reproduced"
    assert found.loc["SETR", "parameters_difference"] == pytest.approx(310 - 401)
    assert list(found.index) == ["CCNet", "EncNet", "PointRend", "SETR", "Ours"]


def test_more_elements_than_products_are_marked() -> None:
    records = [make("a", 3.0, elementwise_gops=4.5), make("b", 3.0, elementwise_gops=0.5)]
    header, first, second, note = complexity.complexity_lines(records)
    assert header.split("  ")[-1].strip() == "element-wise, 1e9"
    assert first.split()[-3:] == ["4.000†", "8.000†", "4.500"]
    assert second.split()[-3:] == ["4.000", "8.000", "0.500"]
    assert note.startswith("† At least as many element-wise operations as counted ones")
    assert complexity.complexity_frame(records)["elementwise_gops_derived"].tolist() == [4.5, 0.5]


def test_claims_by_convention_and_model(records: list[dict]) -> None:
    records[1]["gmacs"] = 90.0
    found = complexity.efficiency_claims_frame(records).set_index("claim")
    assert found.loc["fewer operations than CCNet", "module"] == pytest.approx(99 - 244.7)
    assert found.loc["fewer operations than CCNet", "module_outcome"] == "agrees"
    assert found.loc["fewer operations than EncNet", "module_outcome"] == "agrees"
    assert found.loc["fewer operations than EncNet", "complete_outcome"] == "disagrees"
    assert found.loc["fewer operations than PointRend", "resnet50_module_outcome"] == "disagrees"
    assert found.loc["fewer parameters than SETR", "module"] == pytest.approx(94.8 - 310)
    assert found["complete"].isna().tolist() == [False] * 4 + [True]  # parameters have one convention
    assert len(found) == 5


def test_the_verdict_in_sentences(records: list[dict]) -> None:
    lines = list(complexity.complexity_findings(records))
    assert "does not hold in the module convention at 480x480: ours is number 2 of 5" in lines[0]
    assert "PointRend 63.3, Ours 99.0, EncNet 192.5" in lines[0]
    assert lines[2].startswith("The ResNet-50 model has more operations than the DeiT model in both conventions (138.4")
    assert lines[3] == "Of 4 printed figures of operations, 2 are reproduced within 0.1; not EncNet, PointRend."
    del records[2]
    assert "' is not decided without PSANet, UperNet, PointRend, DNLNet, OCRNet, in the module" in next(
        complexity.complexity_findings(records)
    )
    others = ("PSANet", "UperNet", "PointRend", "DNLNet", "OCRNet")
    records += [make(name, 200.0, millions=50, quoted=name) for name in others]
    assert "' holds in the module convention at 480x480: ours is number 1 of 9" in next(
        complexity.complexity_findings(records)
    )


def test_tables_say_where_their_figures_come_from(records: list[dict]) -> None:
    overview = complexity.complexity_frame(records)
    assert all(name.endswith(("_derived", "_measured")) for name in overview.columns[3:])
    assert overview["module_gflops_derived"][0] == pytest.approx(2 * 244.7)
    assert overview["inference_seconds_median_measured"][4] == 1.5
    assert overview["inference_seconds_n_measured"].tolist()[4] == 3
    assert len(complexity.parts_frame(records)) == len(records)


def test_the_page(records: list[dict]) -> None:
    records[0]["times"] = {"message": "MemoryError: no room"}
    timing = {"rounds": 3, "batch": 2, "size": [480, 480], "threads": 1, "device": "cpu"}
    made = complexity.complexity_report_files(records, "unept-bench complexity --time", timing)
    assert {"report.md", "report.html", "complexity.csv", "parts.csv", "reproduced.csv", "claims.csv"} <= set(made)
    assert {"complexity.png", "complexity.svg"} <= set(made)
    text = made["report.md"].decode()
    assert_golden("complexity.md", text)
    assert all(note in text for note in figures.notes_of_table(7))
    printed = figures.printed_figure(7, "CCNet", "GFLOPs").printed
    derived, quoted = text.split("## What the paper prints")
    assert printed in quoted
    assert printed not in derived
    assert made == complexity.complexity_report_files(records, "unept-bench complexity --time", timing)


def test_a_users_model_stands_alone() -> None:
    made = complexity.complexity_report_files([make("timm:resnet18", 1.8)])
    assert "claims.csv" not in made
    assert "Which claims" not in made["report.md"].decode()
    assert list(complexity.complexity_findings([make("timm:resnet18", 1.8)])) == []
    lines = list(complexity.complexity_lines([make("timm:resnet18", 1.8)]))
    assert lines[1].split()[:3] == ["timm:resnet18", "480x480", "50.000"]


def test_marks_of_the_plot() -> None:
    found = plots_complexity.complexity_mark("a", {"parameters": 2_000_000, "gmacs": 3.0})
    assert (found.parameters, found.gmacs, found.module_gmacs) == (2.0, 3.0, None)
    assert set(plots_complexity.draw_complexity([found])) == {"png", "svg"}
    assert plots_complexity.draw_complexity([]) == {}
