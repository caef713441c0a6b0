"""Comparisons for tests: sides that agree, that are wrong, absent, broken, too large, or that end their process."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from bench.microbench.attention.implementations import Comparison, Implementation, MapSize, PreparedCall


def doubling(size: MapSize) -> PreparedCall:
    return PreparedCall(take=list, run=lambda given: given[0] * 2, give=lambda found: found)


def flat(size: MapSize) -> PreparedCall:
    """Another layout, some scratch, and a tensor of 1000 bytes that it keeps."""

    def run(given: list[Tensor]) -> Tensor:
        return torch.cat([given[0], given[0]]).view(2, -1).sum(0)

    shape = (1, size.tokens, size.heads, size.head_width)
    return PreparedCall(
        take=lambda given: [x.flatten() for x in given[:1]],
        run=run,
        give=lambda found: found.view(shape),
        kept=[torch.zeros(250)],
    )


def tripling(size: MapSize) -> PreparedCall:
    return PreparedCall(take=list, run=lambda given: given[0] * 3, give=lambda found: found)


def absent(size: MapSize) -> PreparedCall:
    raise ModuleNotFoundError("No module named 'absent'")


def broken(size: MapSize) -> PreparedCall:
    raise RuntimeError("two lines\nof a message")


def deadly(size: MapSize) -> PreparedCall:
    os._exit(9)


def comparisons() -> tuple[Comparison, ...]:
    ours = Implementation(name="ours", prepare=doubling, ours=True)
    return (
        Comparison(
            name="sound",
            inputs=1,
            implementations=(ours, Implementation(name="flat", prepare=flat, difference="its layout")),
        ),
        Comparison(
            name="deadly",
            inputs=1,
            implementations=(
                ours,
                Implementation(name="first", prepare=doubling),
                Implementation(name="it", prepare=deadly),
            ),
        ),
        Comparison(
            name="unsound",
            inputs=1,
            implementations=(
                ours,
                Implementation(name="wrong", prepare=tripling),
                Implementation(name="other", prepare=tripling, same_result=False),
                Implementation(name="absent", prepare=absent, install="pip install absent"),
                Implementation(name="broken", prepare=broken),
                Implementation(name="large", prepare=doubling, needed_bytes=lambda _: 1 << 60),
            ),
        ),
    )
