"""How a training is carried out, as far as it does not belong to the variant.

Every run of a study uses `DEFAULT_EXECUTION`: float32, a step's batch in one piece, nothing recomputed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_iter

from bench.distributed import SINGLE, ProcessGroup
from bench.training.activation_checkpointing import enable_activation_checkpointing
from bench.training.options import Execution
from unept.layers.sync_batch_norm import synchronise

DEFAULT_EXECUTION = Execution()


def check_batch(batch: int, processes: int, accumulation: int) -> int:
    """The images of one piece. ValueError for a batch that does not come out even."""
    pieces = processes * accumulation
    if batch % pieces:
        shares = f"{processes} processes x {accumulation} pieces" if accumulation > 1 else f"{processes} processes"
        raise ValueError(f"batch={batch} over {shares}: expected a multiple of {pieces}")
    return batch // pieces


def prepare_model(model: nn.Module, execution: Execution, group: ProcessGroup = SINGLE, *, size: int = 64) -> nn.Module:
    """`model` as a step calls it with images of `size` pixels; it is changed in place, parameters and names stay.

    Several processes get torch's DistributedDataParallel around it, which gives each the first one's weights, and
    batch norm over all of them.
    """
    if execution.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    unused = group.size > 1 and has_unused_parameters(model, size)
    if group.size > 1:
        synchronise(model)
    if execution.checkpointing:
        enable_activation_checkpointing(model)
    if execution.compile:
        model.compile()
    if group.size == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(
        model,
        device_ids=[device.index] if device.type == "cuda" else None,
        find_unused_parameters=unused,
        gradient_as_bucket_view=True,
    )


def has_unused_parameters(model: nn.Module, size: int) -> bool:
    """Whether some parameter takes no part in what the model gives in training, found on the meta device.

    True where that cannot be told, for a module of one's own that computes with values.
    """
    parameters = {name: each.detach().to("meta").requires_grad_() for name, each in model.named_parameters()}
    buffers = {name: each.to("meta") for name, each in model.named_buffers()}
    try:
        output = functional_call(model, parameters | buffers, (torch.empty(2, 3, size, size, device="meta"),))
        made = [each for each in tree_iter(output) if isinstance(each, Tensor) and each.requires_grad]
        torch.autograd.backward(made, [torch.ones_like(each) for each in made])
    except (RuntimeError, ValueError):
        return True
    trained = [name for name, each in model.named_parameters() if each.requires_grad]
    return any(parameters[name].grad is None for name in trained)


def autocast_context(execution: Execution, device: torch.device) -> AbstractContextManager[Any]:
    """What the forward pass runs under."""
    return torch.autocast(device.type, torch.bfloat16) if execution.precision == "bf16" else nullcontext()


def no_gradient_sync(model: nn.Module) -> AbstractContextManager[Any]:
    """Within it a backward pass leaves gradients to this process, for a piece that others follow."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
