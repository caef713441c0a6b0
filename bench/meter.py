"""How far a loop over pictures has come: a bar in a terminal, a line now and then anywhere else."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager
from typing import Any, TextIO

from bench.forecast import in_words

EVERY = 10.0  # seconds between two plain lines


class Meter(AbstractContextManager["Meter"]):
    """`evaluating: 12/500 pictures, 3 min left`, on standard error."""

    def __init__(self, what: str, total: int, *, done: int = 0, stream: TextIO | None = None) -> None:
        """`done` of `total` are there already: they do not count for the pace."""
        self.what, self.total, self.first, self.done = what, total, done, done
        self.stream = stream or sys.stderr
        self.began = self.spoke = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Meter:
        if self.stream.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, console=Console(file=self.stream))
            self._task = self._bar.add_task(self.what, total=self.total, completed=self.done)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def at(self, done: int) -> None:
        """Say that `done` of them are there."""
        self.done = done
        if self._bar is not None:
            self._bar.update(self._task, completed=done)
        elif time.monotonic() - self.spoke >= EVERY:
            self.spoke = time.monotonic()
            print(f"{self.what}: {done}/{self.total} pictures{self._left()}", file=self.stream, flush=True)

    def _left(self) -> str:
        made = self.done - self.first
        if not made:
            return ""
        return f", {in_words((time.monotonic() - self.began) * (self.total - self.done) / made)} left"
