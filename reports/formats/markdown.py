"""Markdown, plainly: tables of words, and text that cannot break one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

DASH = "–"
SPECIAL_CHARACTERS = (
    r"[\\|<>*`\[\]]|&(?=#?\w+;)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # an underscore within a word is plain text
)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """Return a pipe table; the first `left` columns are aligned left, the others right."""
    rule = ["---" if index < left else "---:" for index in range(len(columns))]
    lines = [_line(map(escape_cell, columns)), _line(rule)]
    lines += [_line(map(escape_cell, row)) for row in rows]
    return "\n".join(lines) + "\n"


def escape_cell(text: str) -> str:
    """Return `text` on one line with Markdown's structure characters escaped; a dash for an empty text."""
    return re.sub(SPECIAL_CHARACTERS, r"\\\g<0>", " ".join(text.split())) or DASH


def code_block(text: str) -> str:
    """Return a fenced block whose fence is longer than any in the text."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text}\n{fence}\n"


def bullet_list(lines: Iterable[str]) -> str:
    """Return a list with one item for each line."""
    return "".join(f"- {line}\n" for line in lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
