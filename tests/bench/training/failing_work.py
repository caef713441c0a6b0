"""Processes that come to different ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import distributed

from bench.distributed import Ranks
from bench.training.loop import Stopped
from bench.training.spawn import Signals


def raising(folder: str, ranks: Ranks, device: torch.device) -> None:
    """The second process raises while the others wait for it."""
    Path(folder, str(os.getpid())).touch()
    if ranks.rank == 1:
        raise ValueError("picture 7 is damaged")
    distributed.all_reduce(torch.zeros(1))


def killed(folder: str, ranks: Ranks, device: torch.device) -> None:
    """The second process is killed."""
    Path(folder, str(os.getpid())).touch()
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.all_reduce(torch.zeros(1))


def stopping(folder: str, ranks: Ranks, device: torch.device) -> None:
    """Goes on until it is told to stop."""
    with Signals() as told:
        Path(folder, str(os.getpid())).touch()
        while not ranks.any(bool(told.name), device):
            time.sleep(0.01)
    raise Stopped(12)


def both(folder: str, ranks: Ranks, device: torch.device) -> None:
    """Each end in turn, so that the processes are started once: what a process saw goes to a file."""
    total = ranks.summed(torch.tensor([ranks.rank + 1]))
    everyone = ranks.gathered({"rank": ranks.rank})
    seen = [total.item(), ranks.any(ranks.rank == 1, device), [each["rank"] for each in everyone], ranks.first]
    Path(folder, f"seen {ranks.rank}").write_text(repr(seen))
