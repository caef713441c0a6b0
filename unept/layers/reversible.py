"""Layers of two streams whose inputs are recomputed from their outputs (Kitaev et al. 2020, section 3).

Half a layer adds a function of one stream to the other, so it can be subtracted again, and only the output of the last
layer is stored for the gradient. Dropout is recomputed with the same random numbers. An attention that sorts tokens by
computed values (it has the attributes ``keep``, ``found`` and ``replay``) gets the same sorting again, since a rounding
error could move a token to another bucket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from unept.utils import rng


@dataclass(frozen=True, kw_only=True)
class Half:
    """A function of one stream that is added to the other.

    Attributes:
        function: Maps the source stream to the increment of the target stream.
        inputs: Tensors inside the function that need a gradient.
        sorting: Modules whose sorting is recorded and replayed.
    """

    function: Callable[[Tensor], Tensor]
    inputs: tuple[Tensor, ...]
    sorting: tuple[Any, ...]  # modules that repeat what they found


def make_half(function: Callable[[Tensor], Tensor], modules: Iterable[nn.Module], *inputs: Tensor) -> Half:
    """Return the half that computes with ``modules`` and, besides its argument, with ``inputs``."""
    parts = [part for module in modules for part in module.modules()]
    weights = [weight for part in parts for weight in part.parameters(recurse=False)]
    return Half(
        function=function,
        inputs=tuple(tensor for tensor in (*weights, *inputs) if tensor.requires_grad),
        sorting=tuple(part for part in parts if hasattr(part, "replay")),
    )


def run_reversible(halves: list[Half], x: Tensor) -> Tensor:
    """Run the halves on two streams that both start as ``x``, and return the mean of the streams.

    Args:
        halves: Even ones change the first stream, odd ones the second.
        x: (B, S, C).
    """
    inputs = [tensor for half in halves for tensor in half.inputs]
    first, second = _Reversible.apply(halves, x, x.clone(), *inputs)
    return (first + second) / 2


class _Reversible(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, halves: list[Half], first: Tensor, second: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        streams, ctx.halves, ctx.random, ctx.sortings = [first, second], halves, [], []
        device = first.device.type if torch.amp.is_autocast_available(first.device.type) else "cpu"
        ctx.autocast = {
            "device_type": device,
            "enabled": torch.is_autocast_enabled(device),
            "dtype": torch.get_autocast_dtype(device),
        }
        for index, half in enumerate(halves):
            target, source = index % 2, 1 - index % 2
            ctx.random.append(rng.get_rng_state(first))
            for module in half.sorting:
                module.keep = True
            streams[target] = streams[target] + half.function(streams[source])
            ctx.sortings.append([module.last_buckets for module in half.sorting])
            for module in half.sorting:
                module.keep, module.last_buckets = False, None
        ctx.save_for_backward(*streams)
        return streams[0], streams[1]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        streams, stream_grads = list(ctx.saved_tensors), list(grads)
        input_grads: list[list[Tensor | None]] = []
        for index in reversed(range(len(ctx.halves))):
            half, target, source = ctx.halves[index], index % 2, 1 - index % 2
            x = streams[source].detach().requires_grad_()
            with (
                rng.replay_rng(ctx.random[index], x),
                _replayed(half, ctx.sortings[index]),
                torch.enable_grad(),
                torch.autocast(**ctx.autocast),
            ):
                added = half.function(x)
            grads_of_half = torch.autograd.grad(
                added, (x, *half.inputs), stream_grads[target].to(added.dtype), allow_unused=True
            )
            streams[target] = streams[target] - added.detach()
            if grads_of_half[0] is not None:
                stream_grads[source] = stream_grads[source] + grads_of_half[0]
            input_grads.insert(0, list(grads_of_half[1:]))
        return None, *stream_grads, *(grad for grads_of_half in input_grads for grad in grads_of_half)


@contextmanager
def _replayed(half: Half, sortings: list[Tensor | None]) -> Iterator[None]:
    for module, sorting in zip(half.sorting, sortings, strict=True):
        module.replay = sorting
    try:
        yield
    finally:
        for module in half.sorting:
            module.replay = None
