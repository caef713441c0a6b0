"""Processes that come to different ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch
from torch import distributed

from bench.distributed import ProcessGroup
from bench.training.loop import TrainingStopped
from bench.training.spawn import StopSignals


def raising(folder: str, group: ProcessGroup, device: torch.device) -> None:
    """The second process raises while the others wait for it."""
    Path(folder, str(os.getpid())).touch()
    if group.rank == 1:
        raise ValueError("picture 7 is damaged")
    distributed.all_reduce(torch.zeros(1))


def killed(folder: str, group: ProcessGroup, device: torch.device) -> None:
    """The second process is killed."""
    Path(folder, str(os.getpid())).touch()
    if group.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    distributed.all_reduce(torch.zeros(1))


def stopping(folder: str, group: ProcessGroup, device: torch.device) -> None:
    """Goes on until it is told to stop."""
    with StopSignals() as told:
        Path(folder, str(os.getpid())).touch()
        while not group.any_process(bool(told.name), device):
            time.sleep(0.01)
    raise TrainingStopped(12)


def both(folder: str, group: ProcessGroup, device: torch.device) -> None:
    """Each end in turn, so that the processes are started once: what a process saw goes to a file."""
    total = group.all_reduce_sum(torch.tensor([group.rank + 1]))
    everyone = group.all_gather_objects({"rank": group.rank})
    seen = [
        total.item(),
        group.any_process(group.rank == 1, device),
        [each["rank"] for each in everyone],
        group.is_main_process,
    ]
    Path(folder, f"seen {group.rank}").write_text(repr(seen))
