"""Comparisons for tests: sides that agree, that are wrong, absent, broken, too large, or that end their process."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from bench.microbench.attention.implementations import Comparison, Core, Side, Size


def doubling(size: Size) -> Core:
    return Core(take=list, run=lambda given: given[0] * 2, give=lambda found: found)


def flat(size: Size) -> Core:
    """Another layout, some scratch, and a tensor of 1000 bytes that it keeps."""

    def run(given: list[Tensor]) -> Tensor:
        return torch.cat([given[0], given[0]]).view(2, -1).sum(0)

    shape = (1, size.tokens, size.heads, size.head_width)
    return Core(
        take=lambda given: [x.flatten() for x in given[:1]],
        run=run,
        give=lambda found: found.view(shape),
        kept=[torch.zeros(250)],
    )


def tripling(size: Size) -> Core:
    return Core(take=list, run=lambda given: given[0] * 3, give=lambda found: found)


def absent(size: Size) -> Core:
    raise ModuleNotFoundError("No module named 'absent'")


def broken(size: Size) -> Core:
    raise RuntimeError("two lines\nof a message")


def deadly(size: Size) -> Core:
    os._exit(9)


def comparisons() -> tuple[Comparison, ...]:
    ours = Side(name="ours", make=doubling, ours=True)
    return (
        Comparison(
            name="sound",
            inputs=1,
            sides=(ours, Side(name="flat", make=flat, difference="its layout")),
        ),
        Comparison(
            name="deadly", inputs=1, sides=(ours, Side(name="first", make=doubling), Side(name="it", make=deadly))
        ),
        Comparison(
            name="unsound",
            inputs=1,
            sides=(
                ours,
                Side(name="wrong", make=tripling),
                Side(name="other", make=tripling, same=False),
                Side(name="absent", make=absent, install="pip install absent"),
                Side(name="broken", make=broken),
                Side(name="large", make=doubling, needs=lambda _: 1 << 60),
            ),
        ),
    )
