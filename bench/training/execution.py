"""Execution of a training, as far as it does not belong to the variant: precision, micro-batches, processes.

Every run of a study uses `study_execution`: float32, one micro-batch a step, nothing recomputed; on a CPU with channels
last, where convolutions and batch norms are faster so.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_iter

from bench.distributed import SINGLE, ProcessGroup
from bench.training.activation_checkpointing import enable_activation_checkpointing
from bench.training.options import Execution

DEFAULT_EXECUTION = Execution(  # spelled out: it decides the numbers of every run, and this file is part of their keys
    precision="fp32",
    accumulation=1,
    channels_last=False,
    compile=False,
    checkpointing=False,
    workers=None,
    loss_normalization="global",
)


def study_execution(device: torch.device) -> Execution:
    """Return the execution of every run and measure of a study on a device, whatever the variant."""
    return replace(DEFAULT_EXECUTION, channels_last=device.type == "cpu")


def describe_arithmetic(execution: Execution) -> str:
    """Return how a training computes, for a row: `float32, channels last`."""
    precision = {"fp32": "float32", "bf16": "bfloat16 by autocast"}[execution.precision]
    return f"{precision}, channels {'last' if execution.channels_last else 'first'}"


def set_memory_format(model: nn.Module, execution: Execution) -> None:
    """Give the parameters the execution's memory format, before an optimizer takes its moments after them."""
    if execution.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def prepare_model(model: nn.Module, execution: Execution, group: ProcessGroup = SINGLE, *, size: int = 64) -> nn.Module:
    """Return `model` as a training step calls it. It is changed in place; parameters and names stay.

    Several processes get torch's DistributedDataParallel around it, which gives each the main process's weights, and
    batch norm over all of them.

    Args:
        model: The model, on its device.
        execution: How to execute it.
        group: The processes that train it.
        size: Side of the training images, in pixels.
    """
    set_memory_format(model, execution)
    unused = group.size > 1 and has_unused_parameters(model, size)
    if group.size > 1:
        from unept.layers.sync_batch_norm import synchronise  # imports torch._dynamo, which takes a second

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
    """Return True if some parameter takes no part in the model's training output, as seen on the meta device.

    Also True where that cannot be determined, for a user's module that computes with values.

    Args:
        model: The model.
        size: Side of the training images, in pixels.
    """
    parameters = {name: tensor.detach().to("meta").requires_grad_() for name, tensor in model.named_parameters()}
    buffers = {name: tensor.to("meta") for name, tensor in model.named_buffers()}
    try:
        output = functional_call(model, parameters | buffers, (torch.empty(2, 3, size, size, device="meta"),))
        made = [tensor for tensor in tree_iter(output) if isinstance(tensor, Tensor) and tensor.requires_grad]
        torch.autograd.backward(made, [torch.ones_like(tensor) for tensor in made])
    except (RuntimeError, ValueError):
        return True
    trained = [name for name, tensor in model.named_parameters() if tensor.requires_grad]
    return any(parameters[name].grad is None for name in trained)


def autocast_context(execution: Execution, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of the forward pass."""
    return torch.autocast(device.type, torch.bfloat16) if execution.precision == "bf16" else nullcontext()


def no_gradient_sync(model: nn.Module) -> AbstractContextManager[Any]:
    """Return a context in which a backward pass keeps gradients in this process: more micro-batches follow."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
