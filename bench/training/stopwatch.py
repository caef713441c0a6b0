"""Time of a training without that of probes and of hooks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Seconds of a training, continued from a checkpoint; those of probes and of hooks do not count."""

    def __init__(self, seconds: float, probe_seconds: float) -> None:
        self.probe_seconds = probe_seconds
        self._began = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """Seconds of training until now."""
        return time.perf_counter() - self._began

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Leave out the time within the context."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Count the time within the context as one of probes alone."""
        began = time.perf_counter()
        with self.pausing():
            yield
        self.probe_seconds += time.perf_counter() - began
