"""Activation checkpointing: blocks keep their inputs alone and are recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

CHECKPOINTED_BLOCKS = ("EncoderLayer", "DecoderLayer", "Block", "Bottleneck")


def enable_activation_checkpointing(model: nn.Module) -> None:
    """Recompute each of CHECKPOINTED_BLOCKS in `model` where its gradient is needed, with the same numbers to the bit.

    Dropout draws the same numbers again, and the running statistics of batch norms count a batch once.
    """
    for module in model.modules():
        if type(module).__name__ in CHECKPOINTED_BLOCKS:
            norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
            module.forward = _checkpointed(module.forward, norms)


def _checkpointed(forward: Callable[..., Any], norms: list[_BatchNorm]) -> Callable[..., Any]:
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _uncounted(norms)

    def checkpointed(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)

    return checkpointed


@contextmanager
def _uncounted(norms: list[_BatchNorm]) -> Iterator[None]:
    """Keep the running statistics of batch norms unchanged within the context, though they save the same tensors.

    They count in a copy: torch's own synchronised batch norm needs a counter.
    """
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
        norm.num_batches_tracked = None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone()
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
