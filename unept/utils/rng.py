"""The random numbers of a computation, drawn once more when it is repeated for the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

State = tuple[Tensor, Tensor | None]  # of the CPU's generator, and of the card's


def get_rng_state(like: Tensor) -> State:
    """The state of the CPU's random numbers, and of those of the card that ``like`` is on."""
    own = None
    if _cards(like):
        own = torch.get_device_module(like.device.type).get_rng_state(like.device)
    return torch.get_rng_state(), own


@contextmanager
def replay_rng(state: State, like: Tensor) -> Iterator[None]:
    """Within it random numbers begin at ``state``; after it they go on from where they were."""
    kind = like.device.type if _cards(like) else "cuda"
    with torch.random.fork_rng(devices=_cards(like), device_type=kind):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.get_device_module(like.device.type).set_rng_state(state[1], like.device)
        yield


def _cards(like: Tensor) -> list[int]:
    return [] if like.device.type in ("cpu", "meta") else [like.device.index or 0]
