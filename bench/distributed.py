"""The processes that train one model together, as one of them sees the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """This process's number among `size` that train together. More than one need torch's default process group.

    Every method but `first` is called by all of them, in the same order.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def summed(self, values: Tensor) -> Tensor:
        """The sum of all processes' tensors of one shape and type, without a gradient."""
        if self.size == 1:
            return values
        total = values.detach().clone()
        distributed.all_reduce(total)
        return total

    def gathered(self, value: T) -> list[T]:
        """Every process's `value`, a picklable one, by number."""
        values = [value] * self.size
        if self.size > 1:
            distributed.all_gather_object(values, value)
        return values

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is true in any process; `device` is where they exchange it."""
        return flag if self.size == 1 else bool(self.summed(torch.tensor([float(flag)], device=device)).item())

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            distributed.barrier()


ALONE = Ranks()
