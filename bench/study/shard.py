"""Shards of an experiment's jobs, for schedulers that start the same command many times over one shared folder.

Shard i of n does the runs i, i + n, i + 2n, ... of the experiment's list, counted from 1: seed by seed, and within a
seed the variants in their order. So a run's shard depends on what the command lists, finished runs do not change the
assignment, and more seeds change no earlier run's shard. All measures belong to shard 1: speed and memory are compared
between variants, so one machine takes them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.launchers.queue import Job


@dataclass(frozen=True, kw_only=True)
class Shard:
    """Shard `index` of `count`, from 1; 1 of 1 is the whole study."""

    index: int = 1
    count: int = 1

    @property
    def whole(self) -> bool:
        """True if there is one shard only."""
        return self.count == 1

    @property
    def measures(self) -> bool:
        """True if this shard takes the measures."""
        return self.index == 1

    def of(self, runs: Sequence[Job]) -> tuple[Job, ...]:
        """Return this shard's part of all the runs of an experiment."""
        return tuple(runs[self.index - 1 :: self.count])

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


WHOLE_STUDY = Shard()


def parse_shard(text: str) -> Shard:
    """Return the shard that `2/8` names; "" is the whole study.

    Raises:
        ValueError: For any other text.
    """
    if not text:
        return WHOLE_STUDY
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    shard = Shard(index=int(match[1]), count=int(match[2])) if match else None
    if shard is None or not 1 <= shard.index <= shard.count:
        raise ValueError(f"--shard {text}: expected i/n with 1 <= i <= n, as in 2/8")
    return shard
