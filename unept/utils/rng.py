"""State of the random number generators, so that a recomputation for the gradient draws the same numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

State = tuple[Tensor, Tensor | None]  # states of the CPU's generator and of the device's


def get_rng_state(like: Tensor) -> State:
    """Return the state of the CPU's generator, and that of the device that ``like`` is on."""
    own = None
    if _cards(like):
        own = torch.get_device_module(like.device.type).get_rng_state(like.device)
    return torch.get_rng_state(), own


@contextmanager
def replay_rng(state: State, like: Tensor) -> Iterator[None]:
    """Enter a context in which random numbers start at ``state``; afterwards they go on from where they were."""
    kind = like.device.type if _cards(like) else "cuda"
    with torch.random.fork_rng(devices=_cards(like), device_type=kind):
        torch.set_rng_state(state[0])
        if state[1] is not None:
            torch.get_device_module(like.device.type).set_rng_state(state[1], like.device)
        yield


def _cards(like: Tensor) -> list[int]:
    return [] if like.device.type in ("cpu", "meta") else [like.device.index or 0]
