from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from reports import memory

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
    assert memory.ALLOWANCE == 1.0
    assert [memory.largest_batch(row, card) for card in (1, 2, 3.4, 3.5, 8, 80)] == [0, 0, 0, 1, 4, 52]


def test_the_page_names_what_is_predicted_quoted_and_measured() -> None:
    verified = [
        {"name": "Ours, ResNet50", "predicted": 500, "measured": 501},
        {"name": "Longformer, ResNet50", "predicted": 500, "message": "not run: it needs more than 16 GiB"},
    ]
    page = memory.files(ROWS, verified, SETTING, "unept-bench memory")["report.md"].decode()
    assert "## Live tensors, predicted: a lower bound of what a GPU shows" in page
    assert "| Ours, ResNet50 | 5.00 | 4.00 | 1.00 | 0.00 | 0.00 | 0.00 | 4.00 | 0.00 | backward: decoder |" in page
    assert "- broken: ValueError: no such thing" in page
    assert "| Ours, ResNet50 | 0.000 | 0.000 | 0.9980 |" in page
    assert "| Longformer, ResNet50 | – | – | not run: it needs more than 16 GiB |" in page
    assert "| less memory than Longformer, ResNet50 | -4.3 | +0.50 | disagrees |" in page
    assert "Ours, ResNet50: the printed figure lies 2.0 above the predicted live tensors." in page
    assert "quoted" in page
    assert "Command: `unept-bench memory`" in page


@pytest.mark.parametrize("name", ["batch", "size"])
def test_the_paper_stands_beside_its_own_setting_only(name: str) -> None:
    page = memory.files(ROWS, [], SETTING | {name: 4})["report.md"].decode()
    assert "Beside the paper" not in page


def test_the_table_is_a_csv_with_a_line_a_row() -> None:
    made = memory.files(ROWS, [], SETTING)
    lines = list(csv.DictReader(io.StringIO(made["memory.csv"].decode())))
    assert [line["row"] for line in lines] == ["Ours, ResNet50", "Longformer, ResNet50"]
    assert float(lines[0]["gib"]) == 5.0
    assert lines[0]["images_on_8_gib"] == "4"
    assert made["memory.png"].startswith(b"\x89PNG")
    assert "verified.csv" not in made
    assert memory.draw([ROWS[2]]) == {}


def test_plain_lines() -> None:
    said = list(memory.lines(ROWS))
    assert said[1].split() == ["Ours,", "ResNet50", "5.00", "4.00", "backward:", "decoder"]
    assert said[3].endswith("ValueError: no such thing")
