"""Binary units of memory, in bytes, and counts with their noun."""

from __future__ import annotations

MIB = 1 << 20
GIB = 1 << 30


def count_of(number: int, noun: str) -> str:
    """Return a count with its noun: `1 run`, `2,000 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
