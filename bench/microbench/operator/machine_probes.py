"""Speed of the machine itself: cuda/probes.cpp through ctypes."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from unept.ops import cpu_build

PROBE_SOURCE = "probes.cpp"
MIN_PROBE_POINTS = 1 << 20  # of the gather and scatter probes, at least
MULTIPLY_ADDS, PASSES = 1 << 32, 4
_KINDS = {"gather": 0, "scatter": 1, "multiply-add": 2, "read": 3}


@dataclass(frozen=True, kw_only=True)
class MachineProbe:
    """Tables of a working set, one per thread."""

    library: ctypes.CDLL
    handle: int

    def seconds(self, kind: str, amount: int) -> tuple[float, int]:
        """Time one probe on all threads.

        Args:
            kind: gather, scatter, multiply-add or read.
            amount: Points, multiply-adds or passes to do, at least.

        Returns:
            Seconds, and how many units were done.
        """
        start = time.perf_counter()
        done = self.library.unept_probe_run(self.handle, _KINDS[kind], amount)
        seconds = time.perf_counter() - start
        assert done > 0, (kind, amount, done)
        return seconds, done

    def gather_scatter_seconds(self, points: int) -> Mapping[str, float]:
        """Return the seconds of a gather and of a scatter of this many points."""
        times = {}
        for kind in ("gather", "scatter"):
            seconds, done = self.seconds(kind, max(points, MIN_PROBE_POINTS))
            times[kind] = seconds * points / done
        return times


@contextmanager
def open_probe(rows: int, threads: int) -> Iterator[MachineProbe]:
    """Allocate tables of so many rows of 32 floats for the time of a `with` block.

    Raises:
        cpu_build.Unavailable: The library cannot be built.
        MemoryError: There is not enough memory.
    """
    library = cpu_build.load(PROBE_SOURCE).library
    library.unept_probe_new.argtypes = [ctypes.c_int64, ctypes.c_int]
    library.unept_probe_new.restype = ctypes.c_void_p
    library.unept_probe_run.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int64]
    library.unept_probe_run.restype = ctypes.c_int64
    library.unept_probe_free.argtypes = [ctypes.c_void_p]
    handle = library.unept_probe_new(rows, threads)
    if not handle:
        raise MemoryError(f"no memory for {threads} tables of {rows} rows")
    try:
        yield MachineProbe(library=library, handle=handle)
    finally:
        library.unept_probe_free(handle)
