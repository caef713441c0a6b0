"""The transcription equals the paper's own text, wherever that text is at hand."""

from __future__ import annotations

import dataclasses
import re

import pytest
from locations import SHARED

from bench.config.fields import config_fields, field_value
from bench.config.presets import preset
from bench.config.settings import Settings
from reports.paper import figures as paper

COUNTED = {  # as the notes round them, and as a public counter gave them
    138.4: 138.407,
    99.04: 99.036,
    116.6: 116.638,
    183.0: 182.985,
    237.8: 237.810,
    273.7: 273.683,
    328.5: 328.508,
    313.5: 313.491,
    368.3: 368.264,
    63.3: 63.302,
    305.6: 305.56,
    317.3: 317.29,
    55.05: 55.052,
    69.12: 69.117,
    94.84: 94.842,
}
LISTED = (9.1, 8.8, 50.28, 49.37, 49.99, 17.3, 19.5)  # by the public toolbox's model zoo, or SETR's own paper
TEXT = SHARED / "paper.txt"


@pytest.fixture(scope="module")
def lines() -> list[str]:
    if not TEXT.is_file():
        pytest.skip(f"no text of the paper at {TEXT}")
    return TEXT.read_text(encoding="utf-8").splitlines()


def printed_rows(lines: list[str], number: int) -> list[list[str]]:
    """The tab-separated lines above the caption of a table, without citations: the heading, then the rows."""
    end = next(i for i, line in enumerate(lines) if line.startswith(f"Table {number}."))
    start = end - 1
    while not lines[start].strip():
        start -= 1
    last = start
    while "\t" in lines[start - 1]:
        start -= 1
    return [[re.sub(r"\s*\[\d+\]", "", cell) for cell in line.split("\t")] for line in lines[start : last + 1]]


def row_names(number: int, rows: list[list[str]]) -> list[str]:
    """The names under which the rows are transcribed, made from the paper's first columns."""
    if number == 6:
        levels, names = "", []
        for first, points, *_ in rows:
            levels = first or levels
            names.append(f"N={points} L={levels}")
        return names
    return [f"{row[0]}, {row[1]}" if number == 8 else row[0] for row in rows]


@pytest.mark.parametrize("number", [5, 6, 7, 8])
def test_table_equals_the_text(number: int, lines: list[str]) -> None:
    labels = 2 if number in (6, 8) else 1
    heading, *rows = printed_rows(lines, number)
    expected = {
        (name, column, printed)
        for name, row in zip(row_names(number, rows), rows, strict=True)
        for column, printed in zip(heading[labels:], row[labels:], strict=True)
    }
    table = paper.TABLES[number]
    assert {(f.row, f.column, f.printed) for f in table.figures} == expected
    assert len(table.figures) == len(expected)
    assert list(table.rows) == row_names(number, rows)
    assert list(table.columns) == heading[labels:]


def test_the_comparison_can_fail(lines: list[str]) -> None:
    _, *rows = printed_rows(lines, 6)
    assert row_names(6, rows)[4] == "N=16 L=3"
    assert rows[4][2:] == ["81.7", "46.1"]


def test_every_figure_is_there_once() -> None:
    places = [(f.table, f.row, f.column) for f in paper.PRINTED_FIGURES]
    assert len(places) == len(set(places)) == 8 + 12 + 27 + 16
    assert [place for place, f in zip(places, paper.PRINTED_FIGURES, strict=True) if f.value is None] == [
        (7, "SETR", "GFLOPs")
    ]


def test_values_drop_the_unit() -> None:
    assert paper.printed_figure(5, "+ stronger backbone", "mIoU").value == 50.5
    assert paper.printed_figure(7, "Ours", "#Params.").value == 94
    assert paper.printed_figure(8, "ANL, ResNet50", "Mem Cost").value == 2.0
    with pytest.raises(KeyError, match="no figure at row 'Ours', column 'pAcc'"):
        paper.printed_figure(7, "Ours", "pAcc")


def test_numbers_in_the_notes_are_printed_figures_or_follow_from_them() -> None:
    figures = {f.value for f in paper.PRINTED_FIGURES}
    derived = {4.5, 4.4, 0.2, 1.1, 2.0, 0.3, 0.5}  # 4.5 is the text's own; the others are differences of figures
    numbers = {float(n) for note in paper.PAPER_NOTES for n in re.findall(r"\d+\.\d+", numbers_of(note))}
    assert numbers <= figures | derived | set(COUNTED) | set(LISTED)
    assert numbers >= set(COUNTED) | set(LISTED)
    assert not figures & (set(COUNTED) | set(LISTED))
    assert round(50.5 - 46.1, 1) == 4.4
    assert round(42.5 - 42.3, 1) == 0.2
    assert round(46.1 - 45.0, 1) == 1.1
    assert round(46.1 - 44.1, 1) == 2.0
    assert round(50.5 - 50.2, 1) == 0.3
    assert round(50.5 - 49.99, 1) == 0.5
    assert round(50.5 - 49.37, 1) == 1.1


def test_counted_figures_round_what_was_counted() -> None:
    for said, counted in COUNTED.items():
        places = len(str(said).partition(".")[2])
        assert round(counted, places) == said


def test_a_note_says_whose_its_figures_are() -> None:
    for note in paper.PAPER_NOTES:
        found = {float(n) for n in re.findall(r"\d+\.\d+", numbers_of(note))}
        assert not found & set(COUNTED) or "counted" in note.text
        assert not found & set(LISTED) or "lists" in note.text
        if found & (set(COUNTED) | set(LISTED)):
            assert "quoted" in note.text


@pytest.mark.parametrize("number", [5, 6, 7, 8])
def test_a_changed_digit_is_noticed(number: int, lines: list[str]) -> None:
    """One figure of the text after another: each is compared with the transcription."""
    heading, *rows = printed_rows(lines, number)
    labels = 2 if number in (6, 8) else 1
    table = paper.TABLES[number]
    for name, row in zip(row_names(number, rows), rows, strict=True):
        for column, cell in zip(heading[labels:], row[labels:], strict=True):
            wrong = cell.replace(cell[0], "9" if cell[0] != "9" else "8", 1)
            assert (name, column, wrong) not in {(f.row, f.column, f.printed) for f in table.figures}


def numbers_of(note: paper.PaperNote) -> str:
    """The note without the numbers of sections, which are no figures."""
    return re.sub(r"[Ss]ection \d\.\d", "", note.text)


def test_notes_are_found_by_table() -> None:
    assert len(paper.notes_of_table(5)) == 3
    assert all(paper.notes_of_table(number) for number in paper.TABLES)


def test_recipe_is_the_paper_preset() -> None:
    """What reports call the paper's setting is what the preset of that name runs."""
    settings: Settings = preset("paper")
    named = {name: value for name, value in paper.RECIPE.items() if not isinstance(value, str)}
    assert set(paper.RECIPE) <= set(config_fields())
    assert {name: field_value(settings, name) for name in named} == named
    changed = dataclasses.replace(settings, train=dataclasses.replace(settings.train, batch=8))
    assert {name: field_value(changed, name) for name in named} != named
