"""Tables as lines of plain text in columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from unept.utils.visible_text import single_line


def right_aligned_rows(cells: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of equal length as aligned lines: the first column to the left, the others to the right."""
    cells = [[*map(single_line, row)] for row in cells]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        name, *others = (f"{text:>{width}}" for text, width in zip(row, widths, strict=True))
        yield "  ".join([f"{name.strip():<{widths[0]}}", *others]).rstrip()


def left_aligned_rows(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows of equal length as aligned lines, every column to the left."""
    rows = [[*map(single_line, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True)).rstrip()
