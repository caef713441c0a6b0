"""Parts of error messages. Imports no torch."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_clause(name: str, names: Iterable[str]) -> str:
    """Return a clause that names the most similar of ``names``, such as `` (nearest: ccnet)``, or ""."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (nearest: {close[0]})" if close else ""


def first_error_line(text: str) -> str:
    """Return the most telling line of a program's output, cut to 300 characters.

    That is the first line that contains "error", else the first line; "" if there is none.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), *lines[:1] or ("",))[:300]
