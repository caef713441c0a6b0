"""Processors and memory that this process may use, where a container's control groups allow less than the machine has.

Both versions of Linux's control groups are read, the process's own group and those around it: each may set a limit.
Elsewhere there are no such limits. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

GROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
_NO_LIMIT = 1 << 60  # bytes; version 1 writes a number near 2^63 for none
# (limit, use, what of it is given up when memory is needed) of version 2 and of version 1
_MEMORY_FILES = (
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.high", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


class MemoryLimit(NamedTuple):
    """A control group's limit and what its processes use of it, cached files that can be dropped left out; bytes."""

    limit: int
    used: int

    @property
    def free(self) -> int:
        """Bytes below the limit."""
        return max(0, self.limit - self.used)


def usable_cores() -> int:
    """Return the number of processors this process may use: its affinity mask, cut by the control groups' quotas."""
    return max(1, min([allowed_cores(), *(int(quota) for quota in _cpu_quotas())]))


def allowed_cores() -> int:
    """Return the number of processors in the affinity mask; numeric libraries start as many threads, whatever quota."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_limits() -> list[MemoryLimit]:
    """Return the memory limits that hold for this process; [] where there are none."""
    limits = []
    for group in _groups("memory"):
        for limit_file, used_file, droppable in _MEMORY_FILES:
            limit, used = _number(group / limit_file), _number(group / used_file)
            if limit is not None and limit < _NO_LIMIT:
                cached = _statistics(group / "memory.stat").get(droppable, 0)
                limits.append(MemoryLimit(limit, max(0, (used or 0) - cached)))
    return limits


def _cpu_quotas() -> Iterator[float]:
    """Yield each quota in processors."""
    for group in _groups("cpu"):
        quota, period = [*_words(group / "cpu.max"), "", ""][:2]  # version 2; "max" for none
        if quota.isdecimal() and period.isdecimal():
            yield int(quota) / max(1, int(period))
        time, period_v1 = _number(group / "cpu.cfs_quota_us"), _number(group / "cpu.cfs_period_us")
        if time is not None and period_v1:
            yield time / period_v1


def _groups(controller: str) -> Iterator[Path]:
    """Yield the folders of this process's control group and of those around it, of version 2 and of version 1.

    In a container its own group may be mounted as the top one, under whatever name the host knows it by.
    """
    paths = {GROUPS: "", GROUPS / controller: ""}
    for line in _lines(OWN_GROUPS):
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if not names:
            paths[GROUPS] = path
        elif controller in names.split(","):
            paths |= {GROUPS / controller: path, GROUPS / names: path}
    for top, path in paths.items():
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            yield top.joinpath(*parts[:depth])


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _words(path: Path) -> list[str]:
    return " ".join(_lines(path)).split()


def _number(path: Path) -> int | None:
    """Return the whole number in a file; None where there is no file, or no number from 0 in it."""
    words = _words(path)
    return int(words[0]) if len(words) == 1 and words[0].isdecimal() else None


def _statistics(path: Path) -> dict[str, int]:
    """Return the lines `name number` of a file."""
    pairs = [line.split() for line in _lines(path)]
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}
