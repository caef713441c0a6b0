"""Summary of a study for the user: how its runs and measures ended."""

from __future__ import annotations

from collections.abc import Sequence

from bench.results.rows import STATUSES, Row
from bench.study.options import RETRYABLE


def summary_lines(rows: Sequence[Row], wanted: int) -> list[str]:
    """Return a line on how the runs ended, and lines on each status that is not `ok`, of runs and of measures.

    Args:
        rows: Rows of runs and measures.
        wanted: Number of runs of the experiment.
    """
    runs = [row["status"] for row in rows if row["kind"] == "run"]
    counts = ", ".join(f"{runs.count(status)} {status}" for status in STATUSES if status in runs)
    lines = [f"{len(runs)} of {wanted} runs have a row: {counts or 'none'}"]
    for status in RETRYABLE:
        messages: dict[str, list[str]] = {}
        ended = [row for row in rows if row["status"] == status]
        for row in ended:
            name = f"{row['variant']} seed {row['seed']}" if row["kind"] == "run" else f"measures of {row['variant']}"
            messages.setdefault(row["message"], []).append(name)
        for message, names in messages.items():
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            lines.append(f"{status}: {shown}: {message}")
        if ended:
            again = f"to run these again: the same command with --retry {status}"
            lines.append(f"{again}; logs/{ended[0]['key']}.log tells more about the first")
    return lines
