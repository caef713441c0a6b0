"""Markdown, plainly: tables of words, and text that cannot break one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from unept.utils.visible_text import single_line, visible_text

DASH = "–"
MAX_LINES = 300  # rows of a table
SPECIAL_CHARACTERS = (
    r"[\\|<>*`~$\[\]]|^#{1,6}(?=\s|$)|(?<=\s)#+$|&(?=#?\w+;)"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # an underscore within a word is plain text
)
ITEM_MARKS = r"^([-+]|\d{1,9}[.)])(?=[\s-]|$)"  # what would begin a list within an item


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a pipe table; the first `left` columns are aligned left, the others right.

    Of more than MAX_LINES rows the first are shown, and how many there are.
    """
    rule = ["---" if index < left else "---:" for index in range(len(columns))]
    lines = [_line(map(escape_cell, columns)), _line(rule)]
    total = 0
    for total, row in enumerate(rows, 1):
        if total <= MAX_LINES:
            lines.append(_line(map(escape_cell, row)))
    if total > MAX_LINES:
        lines += ["", f"The first {MAX_LINES} of {total:,} rows; the CSV files beside this page have them all."]
    return "\n".join(lines) + "\n"


def escape_cell(text: str) -> str:
    """Return `text` on one line with Markdown's structure characters escaped, as `visible_text`; a dash for none."""
    return re.sub(SPECIAL_CHARACTERS, r"\\\g<0>", single_line(text)) or DASH


def heading(text: str, level: int = 2) -> str:
    """Return a heading whose text is escaped."""
    return f"{'#' * level} {escape_cell(text)}\n"


def code_block(text: str) -> str:
    """Return a fenced block whose fence is longer than any in the text."""
    shown, fence = visible_text(text), "```"
    while fence in shown:
        fence += "`"
    return f"{fence}\n{shown}\n{fence}\n"


def code_span(text: str) -> str:
    """Return code within a line, between marks that the text does not hold."""
    shown = single_line(text)
    mark = "`"
    while mark in shown:
        mark += "`"
    return f"{mark}{shown}{mark}" if len(mark) == 1 else f"{mark} {shown} {mark}"


def bullet_list(lines: Iterable[str]) -> str:
    """Return a list with one item for each line, escaped."""
    return "".join(f"- {re.sub(ITEM_MARKS, _escaped_mark, escape_cell(line))}\n" for line in lines)


def _escaped_mark(match: re.Match[str]) -> str:
    return f"{match[0][:-1]}\\{match[0][-1]}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
