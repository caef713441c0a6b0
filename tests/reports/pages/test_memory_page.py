from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from golden_pages import assert_golden

from reports.pages import memory, memory_claims
from reports.paper.memory_claims import ALL_LEVELS, BY_LEVEL, DECODER, ENCODER
from reports.plots import memory as plots_memory

GIB = memory.GIB
SETTING = {"batch": 2, "size": 480, "precision": "fp32", "optimizer": "adamw", "checkpointing": False, "device": "cuda"}


def record(name: str, gib: float, quoted: str = "") -> dict[str, Any]:
    kinds = dict.fromkeys(memory.KINDS, 0) | {"parameters": memory.GIB, "activations": round((gib - 1) * memory.GIB)}
    return {
        "name": name,
        "quoted": quoted,
        "batch": 2,
        "plain": round(gib * memory.GIB),
        "bounded": round((gib - 1) * memory.GIB),
        "twice": round((2 * gib - 3) * memory.GIB),
        "kinds": kinds,
        "place": "backward: decoder",
        "place_bounded": "loss",
    }


ROWS = [
    record("Ours, ResNet50", 5.0, "Ours, ResNet50"),
    record("Longformer, ResNet50", 4.5, "Longformer, ResNet50"),
    {"name": "broken", "quoted": "", "batch": 2, "message": "ValueError: no such thing"},
]


def test_a_batch_fits_as_the_two_peaks_say() -> None:
    """3 GiB fixed less 1 for two images: 1 GiB an image and 2 of its own, so a card of 8 less the allowance takes 5."""
    row = record("x", 5.0)
    assert (row["bounded"], row["twice"]) == (4 * memory.GIB, 7 * memory.GIB)  # 1.5 an image, 1 fixed
    assert memory.RESERVED_GIB == 1.0
    assert [memory.largest_batch(row, card) for card in (1, 2, 3.4, 3.5, 8, 80)] == [0, 0, 0, 1, 4, 52]


def test_the_page_names_what_is_predicted_quoted_and_measured() -> None:
    verified = [
        {"name": "Ours, ResNet50", "predicted": 500, "measured": 501},
        {"name": "Longformer, ResNet50", "predicted": 500, "message": "not run: it needs more than 16 GiB"},
    ]
    made = memory.memory_report_files(ROWS, verified, SETTING, "unept-bench memory")
    assert_golden("memory.md", made["report.md"].decode())
    (claim,) = csv.DictReader(io.StringIO(made["claims.csv"].decode()))
    assert (claim["claim"], claim["outcome"]) == ("less memory than Longformer, ResNet50", "disagrees")
    assert [float(claim[name]) for name in ("quoted", "predicted")] == pytest.approx([-4.3, 0.5])
    first, second = csv.DictReader(io.StringIO(made["verified.csv"].decode()))
    assert float(first["ratio"]) == pytest.approx(500 / 501, rel=1e-5)
    assert (second["ratio"], second["message"]) == ("", "not run: it needs more than 16 GiB")


@pytest.mark.parametrize("name", ["batch", "size"])
def test_the_paper_stands_beside_its_own_setting_only(name: str) -> None:
    page = memory.memory_report_files(ROWS, [], SETTING | {name: 4})["report.md"].decode()
    assert "Beside the paper" not in page


def test_the_table_is_a_csv_with_a_line_a_row() -> None:
    made = memory.memory_report_files(ROWS, [], SETTING)
    lines = list(csv.DictReader(io.StringIO(made["memory.csv"].decode())))
    assert [line["row"] for line in lines] == ["Ours, ResNet50", "Longformer, ResNet50"]
    assert float(lines[0]["gib"]) == 5.0
    assert lines[0]["images_on_8_gib"] == "4"
    assert made["memory.png"].startswith(b"\x89PNG")
    assert "verified.csv" not in made
    assert plots_memory.draw_memory([ROWS[2]]) == {}


def test_plain_lines() -> None:
    said = list(memory.memory_lines(ROWS))
    assert said[1].split() == ["Ours,", "ResNet50", "5.00", "4.00", "backward:", "decoder"]
    assert said[3].endswith("ValueError: no such thing")


FORMS = [
    record("Ours, DeiT", 4.5, "Ours, DeiT"),
    record("Reformer, ResNet50", 9.0, "Reformer, ResNet50"),
    record("ANL, ResNet50", 3.9, "ANL, ResNet50"),
    *(record(name, gib) for name, gib in ((ALL_LEVELS, 40.0), (BY_LEVEL, 19.0), (ENCODER, 15.6), (DECODER, 8.0))),
]


def test_every_printed_figure_is_judged_by_its_live_tensors() -> None:
    """Ours lie 2.0 and 4.0 below their printed 7.0 and 8.5, so a form explains what is up to 4.0 above it."""
    found = memory_claims.memory_statements_frame([*ROWS, *FORMS]).set_index("statement")["outcome"]
    assert found["ANL, ResNet50: no less than its live tensors"] == "disagrees"
    assert found["Ours, DeiT: no less than its live tensors"] == "agrees"
    assert found["Ours, DeiT: more than Ours, ResNet50"] == "disagrees"
    assert found["Longformer, ResNet50: its true sparse form has far less"] == "agrees"
    assert found["Reformer, ResNet50: its true sparse form has far less"] == "undetermined"  # 9.0 against 15.5
    assert found[f"Reformer, ResNet50: {ALL_LEVELS}, has far more"] == "agrees"
    assert found[f"Reformer, ResNet50: {ENCODER}, would explain it"] == "disagrees"  # it holds more
    assert found[f"Longformer, ResNet50: {DECODER}, would explain it"] == "agrees"  # 3.3 above it
    assert found[f"Reformer, ResNet50: {DECODER}, would explain it"] == "disagrees"  # 7.5 above it
    alone = memory_claims.memory_statements_frame(FORMS[3:]).set_index("statement")["outcome"]
    assert set(alone[alone.index.str.contains("would explain")]) == {"undetermined"}


def test_masked_forms_stand_beside_the_paper_alone() -> None:
    made = memory.memory_report_files(ROWS, [], SETTING, masked=FORMS[3:])
    assert ALL_LEVELS not in made["memory.csv"].decode()
    assert f'{ALL_LEVELS}, has far more",11.3,40,' in made["statements.csv"].decode()
    assert made["report.md"].decode().count(f"| Longformer, ResNet50: {ALL_LEVELS}, has far more | 11.3 | 40.00 |") == 1
    assert "statements.csv" not in memory.memory_report_files(ROWS, [], SETTING | {"size": 64}, masked=FORMS[3:])


def test_what_a_card_shows_stands_beside_what_is_predicted_for_it() -> None:
    card = {"predicted": 4 * GIB, "allocated": 5 * GIB, "reserved": 6 * GIB, "nvml": None, "reason": "NVML refuses"}
    card |= {"gpu": "A Card", "backend": "cuda", "cudnn_benchmark": False}
    verified = [
        {"name": "Ours, ResNet50", "predicted": 500, "measured": 501, "card": card},
        {"name": "Longformer, ResNet50", "predicted": 500, "measured": 501, "card": {"message": "out of memory"}},
    ]
    made = memory.memory_report_files(ROWS, verified, SETTING)
    page = made["report.md"].decode()
    assert "## What the card shows: A Card\n" in page
    assert "| Ours, ResNet50 | 4.000 | 5.000 | 6.000 | – | 0.8000 | NVML refuses; backend cuda |" in page
    assert "| Longformer, ResNet50 | – | – | – | – | – | out of memory |" in page
    first, second = csv.DictReader(io.StringIO(made["verified.csv"].decode()))
    assert (first["card_allocated_gib"], first["card_nvml_gib"], first["cudnn_benchmark"]) == ("5", "", "off")
    assert (second["card_allocated_gib"], second["card_note"]) == ("", "out of memory")
