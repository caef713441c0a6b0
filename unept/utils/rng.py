"""Random numbers that do not depend on what else draws: replayed for a recomputation, or drawn by a part's name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

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


def draws_by_name() -> Callable[[str], AbstractContextManager[None]]:
    """Return a context for each name, in which the CPU's generator starts at a seed of its own.

    So the initial values of a part depend on torch's seed and the part's name, and on no other part: variants of a
    model that differ in one part start equal in all others. One number is drawn here; the contexts take none from the
    generator, and leave it as they found it.

    >>> named = draws_by_name()
    >>> with named("classifier"):
    ...     layer = torch.nn.Linear(2, 2)
    """
    base = int(torch.randint(1 << 62, (), device="cpu"))

    @contextmanager
    def named(name: str) -> Iterator[None]:
        digest = hashlib.blake2b(f"{base} {name}".encode(), digest_size=4).digest()
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(int.from_bytes(digest, "little"))
        try:
            yield
        finally:
            torch.set_rng_state(before)

    return named


def _cards(like: Tensor) -> list[int]:
    return [] if like.device.type in ("cpu", "meta") else [like.device.index or 0]
