"""Execution of a training, as far as it does not belong to the variant: precision, micro-batches, processes.

Every run of a study uses `DEFAULT_EXECUTION`: float32, one micro-batch a step, nothing recomputed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from torch.utils._pytree import tree_iter

from bench.distributed import SINGLE, ProcessGroup
from bench.training.activation_checkpointing import enable_activation_checkpointing
from unept.layers.sync_batch_norm import synchronise

Precision = Literal["fp32", "bf16"]
LossNormalization = Literal["global", "device"]


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Precision, micro-batches and recomputation of a training.

    Args:
        precision: "bf16" runs the forward pass under autocast; weights and losses stay float32.
        accumulation: Micro-batches a step, one after the other, of a process's part of the batch.
        channels_last: Memory format of the images and of the model.
        compile: Compile the model by torch.compile, in training only.
        checkpointing: Keep the inputs of each block alone and recompute it in the backward pass.
        workers: Loader processes of each process; None for 4 beside a GPU, else 0.
        loss_normalization: Pixel counts and class shares that the losses are divided by: "global" counts the whole
            batch, "device" each micro-batch on each device and averages the losses, as the released code does under
            DistributedDataParallel.

    Raises:
        ValueError: For values that do not go together.
    """

    precision: Precision = "fp32"
    accumulation: int = 1
    channels_last: bool = False
    compile: bool = False
    checkpointing: bool = False
    workers: int | None = None
    loss_normalization: LossNormalization = "global"

    def __post_init__(self) -> None:
        options = (
            ("precision", self.precision, Precision),
            ("denominators", self.loss_normalization, LossNormalization),
        )
        for name, word, kind in options:
            if word not in get_args(kind):
                raise ValueError(f"--{name} {word}: expected {' or '.join(get_args(kind))}")
        for name, value, least in (("accumulation", self.accumulation, 1), ("workers", self.workers or 0, 0)):
            if value < least:
                raise ValueError(f"--{name} {value}: expected at least {least}")
        if self.compile and self.checkpointing:
            raise ValueError("--compile and --checkpointing: give one of them; torch.compile recomputes by itself")

    def loaders(self, device: torch.device) -> int:
        """Return the number of loader processes of a process that computes on `device`."""
        return (0 if device.type == "cpu" else 4) if self.workers is None else self.workers


DEFAULT_EXECUTION = Execution()


def check_batch(batch: int, processes: int, accumulation: int) -> int:
    """Return the number of images of one micro-batch.

    Args:
        batch: Images a step.
        processes: Number of processes.
        accumulation: Micro-batches a step of each process.

    Raises:
        ValueError: For a batch that cannot be divided evenly.
    """
    micro_batch_count = processes * accumulation
    if batch % micro_batch_count:
        shares = f"{processes} processes x {accumulation} pieces" if accumulation > 1 else f"{processes} processes"
        raise ValueError(f"batch={batch} over {shares}: expected a multiple of {micro_batch_count}")
    return batch // micro_batch_count


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
