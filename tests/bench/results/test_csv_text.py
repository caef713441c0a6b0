"""Text that a spreadsheet would compute is text in every table."""

from __future__ import annotations

import csv
import io

import pandas as pd
import pytest

from bench.results.csv_text import csv_cell, csv_text, text_of_cell
from reports.formats.data_frames import frame_to_csv

COMPUTED = ("=1+1", "+cmd|'/c calc'!A1", "-2+3", "@SUM(A1)", "\t=1", "＝1+1", "+ spatial path", "-", "'=1", "''-x")
PLAIN = ("-1.5", "+2", "-1e-3", ".5", "", "N=4", "a-b", "'quoted'", "-inf", "nan")


@pytest.mark.parametrize("text", COMPUTED)
def test_what_would_be_computed_stands_behind_an_apostrophe(text: str) -> None:
    assert csv_cell(text).startswith("'")
    assert text_of_cell(csv_cell(text)) == text
    assert csv_cell("\r=1") == "\\x0d=1"


@pytest.mark.parametrize("text", PLAIN)
def test_numbers_and_other_text_stay(text: str) -> None:
    assert csv_cell(text) == text
    assert text_of_cell(text) == text


def test_values_that_are_no_text_stay() -> None:
    assert [csv_cell(value) for value in (-1, -0.5, True)] == [-1, -0.5, True]
    assert csv_cell(None) == ""


def test_headers_and_cells_of_both_writers() -> None:
    lines = [{"variant": "=1", "=iou": -0.5}, {"variant": "b\x1b"}]
    assert csv_text(["variant", "=iou"], lines) == "variant,'=iou\n'=1,-0.5\nb\\x1b,\n"
    frame = pd.DataFrame({"variant": ["=1", "-b"], "+x": [-0.5, None]})
    assert [*csv.reader(io.StringIO(frame_to_csv(frame)))] == [["variant", "'+x"], ["'=1", "-0.5"], ["'-b", ""]]
