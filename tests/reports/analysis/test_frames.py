"""Tables made from rows by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from synthetic import SETTINGS, measure_row, page, run_row, section, without_plots

from reports.analysis import frames, protocol
from reports.analysis.study_rows import Study, assemble_study, number_at
from reports.formats import data_frames, markdown
from reports.study import report

NAMES = ("N=4 L=1", "N=16 L=1")
MISSING = float("nan")


def study(runs: list[dict[str, Any]], **changes: Any) -> Study:
    return assemble_study("ablate", **({"runs": runs, "planned": runs} | changes))


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)


@pytest.fixture
def two() -> Study:
    runs = [run_row(NAMES[0], s, v) for s, v in enumerate((0.40, 0.42, 0.44))]
    runs += [run_row(NAMES[1], 0, 0.50), run_row(NAMES[1], 1, None, status="diverged", message="loss is nan\n| at 3")]
    return study(runs, measures=[measure_row(NAMES[0])])


def test_accuracy_by_hand(two: Study) -> None:
    first, second = frames.accuracy_frame(two).to_dict("records")
    assert (first["variant"], first["runs"], first["n"]) == (NAMES[0], 3, 3)
    assert first["miou_mean"] == pytest.approx(42)
    assert first["miou_sd"] == pytest.approx(2)
    half = 4.302653 * 2 / math.sqrt(3)  # Student's t of two degrees of freedom
    assert (first["miou_low"], first["miou_high"]) == pytest.approx((42 - half, 42 + half), abs=1e-5)
    assert first["pixel_accuracy_mean"] == pytest.approx(72)
    assert (second["runs"], second["n"]) == (2, 1)
    assert second["miou_mean"] == pytest.approx(50)
    assert pd.isna(second["miou_sd"])
    assert pd.isna(second["miou_low"])
    assert "miou_refined_mean" not in first


@pytest.mark.parametrize(
    ("data", "said"),
    [("folder:/home/someone/camvid11/", "folder:camvid11"), ("ade20k:ADE", "ade20k:ADE"), ("scenes", "scenes")],
)
def test_headings_name_the_data_without_its_folders(data: str, said: str) -> None:
    found = study([run_row("control", 0, 0.4, settings=SETTINGS | {"data": data})])
    assert protocol.protocol_summary(found) == f"{said}, split val, 64 px, 500 steps"
    assert ("data", data) in protocol.protocol_table(found)


def test_a_study_says_its_arithmetic_where_its_rows_do() -> None:
    def table(*training: dict[str, str]) -> dict[str, str]:
        runs = [run_row("a", seed, 0.4, training=one) for seed, one in enumerate(training)]
        return dict(protocol.protocol_table(assemble_study("ablate", runs=runs)))

    new, old = {"arithmetic": "float32, channels last"}, dict[str, str]()
    assert "arithmetic" not in table(old, old)
    assert table(new, new)["arithmetic"] == "float32, channels last"
    assert table(new, old)["arithmetic"] == "float32, channels last | not said"


def test_every_seed_and_failure_is_shown(two: Study) -> None:
    seeds = frames.seeds_frame(two)
    assert list(zip(seeds["variant"], seeds["seed"], seeds["status"], strict=True)) == [
        *((NAMES[0], seed, "ok") for seed in range(3)),
        (NAMES[1], 0, "ok"),
        (NAMES[1], 1, "diverged"),
    ]
    assert seeds["miou"].dropna().tolist() == pytest.approx([40, 42, 44, 50])
    (failure,) = frames.failures_frame(two).to_dict("records")
    assert failure == {"variant": NAMES[1], "seed": "1", "status": "diverged", "message": "loss is nan\n| at 3"}


def test_cost_states_its_sources(two: Study) -> None:
    first, second = frames.cost_frame(two).to_dict("records")
    assert all(
        name.endswith(("_derived", "_predicted", "_measured")) for name in first if name not in ("variant", "status")
    )
    assert (first["parameters_derived"], first["gmacs_derived"]) == (198765, 0.0512)
    assert [first[f"train_images_per_second_{part}_measured"] for part in ("median", "q1", "q3")] == [130.26, 128, 131]
    assert second["status"] == "not run"
    assert all(pd.isna(value) for name, value in second.items() if name not in ("variant", "status"))
    assert "| size | 64, 64 |" in section(page(two), "Cost")


def test_a_cell_with_more_elements_than_products_is_marked_and_explained() -> None:
    def cost(elements: float) -> str:
        counts = measure_row(NAMES[0])["metrics"] | {"elementwise_gops": elements}
        return section(
            page(study([run_row(NAMES[0], 0, 0.4)], measures=[measure_row(NAMES[0], metrics=counts)])), "Cost"
        )

    assert "| 198,765 | 0.0512† | 0.1024 | 0.0498 | 0.06 | 1.94 | 0.0248 | 1.25 |" in cost(0.06)
    assert "† At least as many element-wise operations as counted ones" in cost(0.06)
    assert "| 198,765 | 0.0512 | 0.1024 | 0.0498 | 0.05 | 1.94 | 0.0248 | 1.25 |" in cost(0.05)
    assert "†" not in cost(0.05)


def test_cost_as_csv_keeps_whole_numbers(two: Study) -> None:
    header, first, second = data_frames.frame_to_csv(frames.cost_frame(two)).splitlines()
    assert header.startswith(
        "variant,status,parameters_derived,gmacs_derived,gflops_derived,module_gmacs_derived,elementwise_gops_derived,"
        "inside_share_measured,"
    )
    assert first.startswith("N=4 L=1,ok,198765,0.0512,0.1024,0.0498,,,0.0248,480,1.2505,1.94,130.26,128,131,9,")
    assert second == "N=16 L=1,not run" + "," * 18


def test_quoted_stands_apart(two: Study) -> None:
    text = page(two)
    quoted = section(text, "What the paper prints: Table 6, *quoted*")
    assert "| N=16 L=3 | 81.7 | 46.1 |" in quoted
    assert "mIoU, % (quoted)" in quoted
    assert "45.6/80.4" not in text
    assert "(measured)" not in quoted
    assert "46.1" not in text.replace(quoted, "")  # no quoted figure in any measured table


def test_quoted_table_belongs_to_the_question() -> None:
    def number_for(kind: str, variant: str) -> int | None:
        return report.quoted_table(assemble_study(kind, runs=[run_row(variant, 0, 0.4)]))

    assert number_for("table 5", "baseline") == 5
    assert number_for("ablate", "N=4 L=1") == 6
    assert number_for("ablate", "N=4") == 6
    assert number_for("ablate", "N=4 heads=2") is None
    assert number_for("ablate", "width=64") is None


def test_refined_accuracies_appear_where_a_run_has_them(two: Study) -> None:
    run = run_row(NAMES[0], 0, 0.4)
    run["metrics"] |= {"miou_refined": 0.41, "pixel_accuracy_refined": 0.71}
    refined = study([run, run_row(NAMES[1], 0, 0.5)])
    first, second = frames.accuracy_frame(refined).to_dict("records")
    assert first["miou_refined_mean"] == pytest.approx(41)
    assert pd.isna(second["miou_refined_mean"])
    lines = section(page(refined), "Boundary refinement at test").splitlines()
    assert "| N=4 L=1 | 1 | 41.00 | +1.00 | – | – | – | – | – |" in lines
    assert "| N=16 L=1 | 0 | – | – | – | – | – | – | – |" in lines
    assert "## Boundary refinement" not in page(two)


def test_class_iou_leaves_out_absent_classes() -> None:
    runs = [run_row("N=4", 0, 0.4), run_row("N=4", 1, 0.5)]
    runs[0]["metrics"]["iou"] = {"ground": 0.5, "pole": None, "sky": None}
    runs[1]["metrics"]["iou"] = {"ground": 0.7, "pole": MISSING, "sky": 0.9}
    frame = frames.class_iou_frame(study(runs))
    assert frame["class"].tolist() == ["ground", "pole", "sky"]
    ground, pole, sky = frame["N=4"].tolist()
    assert (ground, sky) == pytest.approx((60, 90))
    assert pd.isna(pole)
    assert "| pole | – |" in page(study(runs))


def test_what_was_planned_and_not_run_is_said() -> None:
    planned = [{"variant": name, "seed": seed, "axes": {}} for seed in (0, 1) for name in ("a", "b", "c")]
    part = study([run_row("b", 0, 0.4)], planned=planned)
    assert part.variants == ("a", "b", "c")
    assert frames.accuracy_frame(part)["n"].tolist() == [0, 1, 0]
    failures = frames.failures_frame(part)
    assert failures["seed"].tolist() == ["0, 1", "1", "0, 1"]
    assert set(failures["status"]) == {"not run"}
    text = page(part)
    assert "5 runs missing: these figures are not final" in text
    assert "| b | 40.00 / 70.00 | – |" in text


def test_no_row_at_all() -> None:
    empty = study([], planned=[{"variant": "a", "seed": 0}])
    text = page(empty)
    assert "Measured on: no run yet." in text
    assert "0 runs of 1 variant: none yet." in text
    assert "Not measured yet." in text
    assert set(report.study_report_files(empty)) >= {"report.md", "accuracy.csv", "accuracy.png", "accuracy.svg"}


def test_one_seed_is_not_called_a_comparison() -> None:
    runs = [run_row("a", 0, 0.4), run_row("b", 0, 0.5)]
    assert "- Not to be judged against a without two values a side that differ: b (n = 1 against 1).\n" in page(
        study(runs)
    )
    runs += [run_row("a", 1, 0.4), run_row("b", 1, 0.5)]
    text = page(study(runs))
    assert "- Not to be judged against a without two values a side that differ: b (n = 2 against 2).\n" in text
    assert "| b | cannot be judged | 2 | +10.00 | – | – | – | – | – | – |" in text


def test_all_seeds_failed() -> None:
    failed = study(
        [run_row(NAMES[0], s, None) for s in range(3)], measures=[measure_row(NAMES[0], status="oom", metrics={})]
    )
    text = page(failed)
    assert "| N=4 L=1 | 0 | – | – | – | – | 3 |" in text
    assert "| N=4 L=1 | failed | failed | failed |" in text
    assert frames.failures_frame(failed)["seed"].tolist() == ["0", "1", "2", "cost"]


def test_a_run_without_its_number_is_a_failure() -> None:
    for broken in ({}, {"miou": None}, {"miou": MISSING}, {"miou": "0.4"}, {"miou": True}):
        one = study([run_row("a", 0, 0.4, metrics=broken)])
        assert frames.accuracy_frame(one)["n"].tolist() == [0]
        assert frames.failures_frame(one)["message"].tolist() == ["ended without an mIoU"]


def test_rows_may_lack_anything_optional_and_hold_anything_more() -> None:
    run = run_row("a", 0, 0.4, extra={"deep": [1, {"er": None}]})
    for name in ("environment", "training", "command", "started", "finished", "settings", "axes", "message"):
        del run[name]
    run["metrics"] |= {"unknown": {"a": 1}, "boundary_iou": 0.5}
    text = page(study([run], measures=[{"variant": "a", "metrics": {"gmacs": 1.5}}]))
    assert "| a | 1 | 40.00 | – | 70.00 | – |" in text
    assert "| a | – | 1.5 | – | – | – | – |" in text


def test_the_newer_of_two_rows_counts() -> None:
    old = run_row("a", 0, 0.1, finished="2026-01-01T00:00:00+00:00", key="z")
    new = run_row("a", 0, 0.2, finished="2026-01-02T00:00:00+00:00", key="b")
    for runs in ([old, new], [new, old]):
        assert [run["key"] for run in study(runs).runs] == ["b"]
    good = measure_row("a", finished="2026-01-01T00:00:00+00:00")
    bad = measure_row("a", finished="2026-01-02T00:00:00+00:00", status="failed")
    assert study([], measures=[good, bad]).measures["a"]["status"] == "ok"


def test_order_of_rows_changes_nothing() -> None:
    runs = [run_row(name, seed, 0.4 + seed / 100) for name in NAMES for seed in range(4)]
    forward, backward = study(runs), study(runs[::-1], planned=runs)
    assert report.study_report_files(forward) == report.study_report_files(backward)


def test_differences_name_what_the_paper_had() -> None:
    text = page(study([run_row(NAMES[0], 0, 0.4)]))
    differs = section(text, "What differs from the paper's setting")
    assert "| steps | 160000 | 500 |" in differs
    assert "| runs a variant | 5 | 1 |" in differs
    assert "| data | ADE20K, 20K training and 2K validation images | scenes |" in differs
    assert "dropout" not in differs  # these rows do not record it


def test_differing_backbones_are_said() -> None:
    def on(backbone: str, weights: str) -> dict[str, Any]:
        return {"data": "scenes", "model": {"backbone": backbone}, "train": {"backbone_weights": weights}}

    runs = [
        run_row("a", 0, 0.4, settings=on("lite0", "lite0-pypi")),
        run_row("+ b", 0, 0.5, settings=on("tiny_vit", "")),
    ]
    text = page(study(runs))
    assert "- lite0 (weights: lite0-pypi): a\n- tiny_vit (weights: none, from scratch): + b\n" in text
    assert "Backbones differ" not in page(study(runs[:1]))


def test_many_classes_are_left_to_the_csv() -> None:
    run = run_row("a", 0, 0.4)
    run["metrics"]["iou"] = {f"class {index}": 0.5 for index in range(150)}
    many = study([run])
    assert "150 classes: see class_iou.csv." in page(many)
    assert len(data_frames.frame_to_csv(frames.class_iou_frame(many)).splitlines()) == 151


def test_numbers_are_numbers() -> None:
    row = {"metrics": {"a": 1, "b": float("inf"), "c": True, "d": "2", "e": {"median": 3.5}}}
    assert number_at(row, "metrics", "a") == 1
    assert [number_at(row, "metrics", name) for name in "bcde"] == [None] * 4
    assert number_at(row, "metrics", "e", "median") == 3.5
    assert number_at(row, "metrics", "a", "median") is None


def test_markdown_cannot_be_broken() -> None:
    assert markdown.escape_cell("a|b\nc <i> *x* `y` \\") == "a\\|b c \\<i\\> \\*x\\* \\`y\\` \\\\"
    assert markdown.escape_cell("encoder_self __init__") == "encoder_self \\_\\_init\\_\\_"
    assert markdown.escape_cell("[a](b) &lt; & c") == "\\[a\\](b) \\&lt; & c"
    assert markdown.escape_cell(" ") == "–"
    assert markdown.code_block("```") == "````\n```\n````\n"
    lines = markdown.markdown_table(["a", "b"], [["1", "2 | 3"]]).splitlines()
    assert lines == ["| a | b |", "| --- | ---: |", "| 1 | 2 \\| 3 |"]
