"""Names of the comparisons of `core_comparisons`, without an import of torch; a test compares the two."""

from __future__ import annotations

from collections.abc import Sequence

COMPARISON_NAMES = ("longformer", "longformer-window2d", "reformer", "sparse-strided", "sparse-fixed", "dense")


def check_comparison_names(names: Sequence[str]) -> None:
    """Raise ValueError for the first of the names that no comparison has."""
    for name in names:
        if name not in COMPARISON_NAMES:
            raise ValueError(f"--only {name}: there are {', '.join(COMPARISON_NAMES)}")
