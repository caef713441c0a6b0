"""Peak memory of one training step, predicted: the real step is traced on tensors that have sizes and no data.

Model, loss, backward pass and optimiser are those of the recipe. Not seen are an operator's own work space, the
allocator's rounding and slack, and what a driver keeps: a lower bound of what a GPU shows, and what a counting
allocator sees on a CPU.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby, islice
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import unept
from bench.config.settings import Settings
from bench.profiling.memory.setting import PRECISIONS, StepSetting
from bench.profiling.memory.tracker import (
    GRADIENTS,
    INPUTS,
    OPTIMIZER,
    PARAMETERS,
    MemoryTracker,
    PeakMemory,
    reallocate_on_cpu,
)
from bench.training.activation_checkpointing import enable_activation_checkpointing
from bench.training.loop import compute_losses
from bench.training.optimizer import make_optimizer
from unept.losses import banded_cross_entropy
from unept.ops import dispatch

DROPOUT, FUSED_ATTENTION = F.dropout, F.scaled_dot_product_attention  # as torch has them


def predict_peak(settings: Settings, setting: StepSetting, *, backend: str = "native") -> PeakMemory:
    """Predict the peak of the second training step, when the optimiser has its state.

    Args:
        settings: The model and the recipe.
        setting: How the step is taken.
        backend: Backend of deformable attention; "native" and "cuda" hold the same.

    Raises:
        ValueError: The settings cannot be built.
    """
    settings = settings_at_size(settings, setting)
    with torch.device("meta"), warnings.catch_warnings(action="ignore"):
        model = unept.build(settings.model).train()
    with FakeTensorMode(), assume_backend(backend), assume_device(setting.device), _few_bands():
        reallocate_on_cpu(model)
        batch = zero_batch(setting)
        tracker = MemoryTracker()
        tracker.mark([*model.parameters(), *model.buffers()], PARAMETERS)
        tracker.mark(batch.values(), INPUTS)
        with tracker:
            step = TrackedStep(model, settings, setting, tracker)
            step.prepare()
            tracker.start_peak()
            step(batch)
    return tracker.peak()


def settings_at_size(settings: Settings, setting: StepSetting) -> Settings:
    """Return the settings at the step's size, with bounded losses or without."""
    return dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, size=setting.size),
        loss=dataclasses.replace(settings.loss, bounded=setting.bounded),
    )


class TrackedStep:
    """One optimisation step by the recipe, its phases told to a `MemoryTracker` where there is one.

    Without a tracker it takes real steps, to verify predictions.
    """

    def __init__(
        self, model: nn.Module, settings: Settings, setting: StepSetting, tracker: MemoryTracker | None
    ) -> None:
        self.model, self.settings, self.setting, self.tracker = model, settings, setting, tracker
        if setting.checkpointing:
            enable_activation_checkpointing(model)
        if setting.optimizer == "adamw":
            self.optimizer: torch.optim.Optimizer = make_optimizer(model, settings.train)
        else:
            self.optimizer = torch.optim.SGD(model.parameters(), settings.train.lr, momentum=0.9)

    def prepare(self) -> None:
        """Give the optimiser the state that it has from its first step on."""
        for parameter in self.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self._mark(self._state(), OPTIMIZER)

    def __call__(self, batch: dict[str, Tensor]) -> None:
        """Take a step: forward, loss, backward, optimiser, in the order of `bench.training.loop.train_step`."""
        name = PRECISIONS[self.setting.precision]
        low = getattr(torch, name) if name else None
        device = batch["image"].device.type
        self.optimizer.zero_grad(set_to_none=True)
        self._phase("forward")
        with nullcontext() if low is None else torch.autocast(device, low):
            output = self.model(batch["image"])
            self._phase("loss")
            total = compute_losses(output, batch, self.settings).total
        del output
        self._phase("backward")
        total.backward()
        del total
        self._mark([parameter.grad for parameter in self.model.parameters()], GRADIENTS)
        self._phase("optimizer")
        torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        self.optimizer.step()

    def tensors(self) -> list[Tensor]:
        """Return what is there between two steps: parameters, buffers, gradients and the optimiser's state."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        return [*self.model.parameters(), *self.model.buffers(), *gradients, *self._state()]

    def _state(self) -> list[Tensor]:
        states = self.optimizer.state.values()
        return [value for state in states for value in state.values() if isinstance(value, Tensor)]

    def _mark(self, tensors: Any, kind: str) -> None:
        if self.tracker is not None:
            self.tracker.mark(tensors, kind)

    def _phase(self, name: str) -> None:
        if self.tracker is not None:
            self.tracker.phase = name


def zero_batch(setting: StepSetting) -> dict[str, Tensor]:
    """Return images and targets in a step's shapes, all 0."""
    shape = (setting.batch, setting.size, setting.size)
    truth = {name: torch.zeros(shape, dtype=torch.int64) for name in ("label", "boundary", "direction")}
    return {"image": torch.zeros(setting.batch, 3, setting.size, setting.size), **truth}


def assume_backend(backend: str) -> Any:
    """Return a context in which deformable attention holds what that backend holds, built here or not.

    Fake tensors need no kernel.
    """
    return mock.patch.object(dispatch, "_name", return_value="reference" if backend == "reference" else "native")


@contextmanager
def assume_device(device: str) -> Iterator[None]:
    """Enter a context in which dropout masks, fused products and the bands of losses hold what they hold on "cuda" or
    "cpu".
    """
    if device == "cpu":
        yield
        return
    with (
        _Cuda(),
        mock.patch.object(F, "dropout", _byte_masked),  # torch's autograd engine runs a recomputed block in no mode
        mock.patch.object(F, "scaled_dot_product_attention", _without_dropout),
        mock.patch.object(banded_cross_entropy, "BAND_CPU", banded_cross_entropy.BAND_GPU),
    ):
        yield


def _few_bands() -> AbstractContextManager[object]:
    """Return a context in which a banded loss does three of each run of equal bands, twice over the images.

    The others hold the same.
    """
    of_a_loss = banded_cross_entropy._bands

    def shape(band: banded_cross_entropy._Band) -> list[int]:
        return [part.stop - part.start for part in band]

    def few(*args: Any, **kwargs: Any) -> Iterator[banded_cross_entropy._Band]:
        for (images, *_), equal in groupby(of_a_loss(*args, **kwargs), key=shape):
            yield from (band for band in islice(equal, 3) if band.images.start < 2 * images)

    return mock.patch.object(banded_cross_entropy, "_bands", few)


class _Cuda(TorchFunctionMode):
    """Dropout with byte masks, and fused products that drop weights without holding them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is DROPOUT:
            return _byte_masked(*args, **kwargs)
        return _without_dropout(*args, **kwargs) if func is FUSED_ATTENTION else func(*args, **kwargs)


def _byte_masked(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    if not training or p == 0:
        return input
    dropped: Tensor = torch.native_dropout(input, p, True)[0]
    return input.copy_(dropped) if inplace else dropped


def _without_dropout(*args: Any, **kwargs: Any) -> Tensor:
    result: Tensor = FUSED_ATTENTION(*args, **{**kwargs, "dropout_p": 0.0})
    return result
