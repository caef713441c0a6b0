"""Tables as CSV text that a spreadsheet shows and does not compute."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from unept.utils.visible_text import visible_text

_COMPUTED = re.compile("'*[=+\\-@\t\n＝＋－＠]")  # with apostrophes before it: one more, and one less when it is read
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")


def csv_cell(value: Any) -> Any:
    """Return a cell's value: text that a spreadsheet would compute behind an apostrophe, which makes it text there.

    That is text that begins with `=`, `+`, `-`, `@`, a tab or the end of a line, and is no number. Text that has
    apostrophes before these gets one more, so that `text_of_cell` knows which is ours. Characters that steer a terminal
    are spelled out. "" for None; numbers as they are.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    shown = visible_text(value)
    return f"'{shown}" if _COMPUTED.match(shown) and not _NUMBER.fullmatch(value) else shown


def text_of_cell(cell: Any) -> Any:
    """Return a cell of such a table as it was before the apostrophe."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _COMPUTED.match(cell) else cell


def csv_text(columns: Sequence[str], lines: Iterable[Mapping[str, Any]]) -> str:
    """Return CSV text with a header and a line for each mapping; a column that a mapping lacks is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in columns])
    writer.writerows([csv_cell(line.get(name)) for name in columns] for line in lines)
    return text.getvalue()
