"""How a training is carried out, as far as it does not belong to the variant.

Every run of a study uses `DEFAULT_EXECUTION`: float32, a step's batch in one piece, nothing recomputed.
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

    `loss_normalization` says which pixel counts and class shares the losses are divided by: "global" counts the whole
    batch, "device" each micro-batch on each device and averages the losses, as the released code does under
    DistributedDataParallel. ValueError for values that do not go together.
    """

    precision: Precision = "fp32"  # bf16: the forward pass under autocast; weights and losses stay float32
    accumulation: int = 1  # pieces of a process's part of the batch, one after the other
    channels_last: bool = False
    compile: bool = False  # by torch.compile, in training only
    checkpointing: bool = False  # keep the inputs of each block alone, and compute it again
    workers: int | None = None  # loader processes of each process; None: 4 beside a GPU, else 0
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
        """Loader processes of a process that computes on `device`."""
        return (0 if device.type == "cpu" else 4) if self.workers is None else self.workers


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
