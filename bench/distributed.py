"""The group of processes that train or evaluate one model together, as one of its members sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ProcessGroup:
    """This process's rank among `size` processes. A size above 1 needs torch's default process group.

    Every method is a collective: all processes of the group call it, in the same order.

    Args:
        rank: This process's number, from 0.
        size: Number of processes in the group.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main_process(self) -> bool:
        """True in the process that writes files and prints (rank 0)."""
        return self.rank == 0

    def all_reduce_sum(self, values: Tensor) -> Tensor:
        """Return the sum of all processes' `values`, which share shape and dtype, without a gradient."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total

    def all_gather_objects(self, value: T) -> list[T]:
        """Return every process's `value`, a picklable object, in the order of the ranks."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        return values

    def any_process(self, flag: bool, device: torch.device) -> bool:
        """Return True if `flag` is true in any process; the flags are exchanged on `device`."""
        return flag if self.size == 1 else bool(self.all_reduce_sum(torch.tensor([float(flag)], device=device)).item())

    def barrier(self) -> None:
        """Wait until every process of the group is here."""
        if self.size > 1:
            distributed.barrier()


SINGLE = ProcessGroup()
