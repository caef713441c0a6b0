"""Batches for the native loss, what it makes of them, and what it must make by plain PyTorch in float64."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch
from msda_cases import compile_to
from torch import Tensor

from unept.config import LossConfig
from unept.losses import native_loss
from unept.losses.total_loss import terms
from unept.model import Output

TERMS = ("plain", "refined", "boundary", "direction")
Threshold = Literal["probability", "logit"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LossCase:
    """A batch and how it is supervised."""

    name: str
    config: LossConfig = dataclasses.field(default_factory=LossConfig)
    threshold: Threshold = "probability"
    channels: int = 1  # of the boundary head; 0: no heads
    classes: int = 8
    batch: int = 2
    size: tuple[int, int] = (32, 48)
    ignored: float = 0.2
    spread: float = 2.0  # of the logits
    one_class: bool = False
    tied: bool = False  # all directions alike
    sure: bool = False  # of no boundary anywhere, and right

    def output(self, dtype: torch.dtype) -> Output:
        """Logits of the model, the same numbers in each type."""
        generator = torch.Generator().manual_seed(len(self.name))
        grid = tuple(-(-side // 8) for side in self.size)
        made = [
            (torch.randn(self.batch, count, *grid, generator=generator) * self.spread).to(dtype).requires_grad_()
            for count in (self.classes, *([self.channels, 8] if self.channels else []))
        ]
        boundary, direction = made[1:] or (None, None)
        if self.sure and boundary is not None:
            boundary = (boundary.detach() / 8 - 12).requires_grad_()
        if self.tied and direction is not None:
            direction = torch.zeros_like(direction).requires_grad_()
        return Output(made[0], boundary, direction, None)

    def targets(self) -> tuple[Tensor, Tensor, Tensor]:
        """Label, boundary and direction."""
        generator = torch.Generator().manual_seed(1)
        shape = (self.batch, *self.size)
        label, edge, way = (torch.randint(0, n, shape, generator=generator) for n in (self.classes, 2, 8))
        if self.one_class:
            edge, way = edge * 0, way * 0 + 3
        if self.sure:
            edge = edge * 0
        gone = torch.rand(shape, generator=generator) < self.ignored
        label[gone] = edge[gone] = way[gone] = 255
        way[torch.rand(shape, generator=generator) < self.ignored / 2] = 255
        return label, edge, way


def loss_cases() -> Iterator[LossCase]:
    """Every way in which the loss differs, and sizes that fill no vector."""
    yield LossCase(name="paper")
    yield LossCase(name="two channels", channels=2)
    yield LossCase(name="by logit", threshold="logit")
    yield LossCase(name="two channels by logit", channels=2, threshold="logit")
    yield LossCase(name="all pixels", config=LossConfig(ce_average="all"))
    yield LossCase(name="true area", config=LossConfig(direction_area="truth"))
    yield LossCase(name="both areas", config=LossConfig(direction_area="both"), channels=2)
    yield LossCase(name="no heads", channels=0)
    yield LossCase(name="odd sizes", size=(19, 23), classes=5, batch=3)
    yield LossCase(name="one row", size=(1, 9), classes=3)
    yield LossCase(name="nothing ignored", ignored=0.0)
    yield LossCase(name="everything ignored", ignored=1.0)
    yield LossCase(name="everything ignored, two channels", ignored=1.0, channels=2)
    yield LossCase(name="one class only", one_class=True)
    yield LossCase(name="one class only, two channels", one_class=True, channels=2)
    yield LossCase(name="certain", spread=40.0)
    yield LossCase(name="sure and right", sure=True)
    yield LossCase(name="as large as a quick step", size=(64, 64), batch=4)


def numbers(values: tuple[Tensor, ...], output: Output) -> dict[str, Tensor]:
    """The terms, and the gradient of each in each map, in float64."""
    maps = {
        name: tensor
        for name, tensor in zip(("logits", "boundary", "direction"), output[:3], strict=True)
        if tensor is not None
    }
    made = {name: value.detach().double() for name, value in zip(TERMS, values, strict=True)}
    for name, value in zip(TERMS, values, strict=True):
        if not value.requires_grad:
            continue
        slopes = torch.autograd.grad(value, [*maps.values()], retain_graph=True, allow_unused=True)
        for where, slope in zip(maps, slopes, strict=True):
            made[f"{name} by {where}"] = torch.zeros(maps[where].shape) if slope is None else slope
    return {name: tensor.double() for name, tensor in made.items()}


def native(case: LossCase, library: ctypes.CDLL) -> dict[str, Tensor]:
    """What the library makes of the case."""
    output = case.output(torch.float32)
    return numbers(native_loss.terms(output, case.targets(), case.config, case.threshold, library=library), output)


def expected(case: LossCase, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """What plain PyTorch makes of it."""
    output = case.output(dtype)
    return numbers(terms(output, case.targets(), case.config, edge_threshold=case.threshold), output)


def complaints(case: LossCase, library: ctypes.CDLL) -> list[str]:
    """What the library makes otherwise than float64, by more than twice the error of plain PyTorch in float32."""
    made, right, plain = native(case, library), expected(case), expected(case, torch.float32)
    found = []
    for name, values in right.items():
        largest = max(float(values.abs().max()), 1e-30)
        error = float((made.get(name, torch.zeros_like(values)) - values).abs().max()) / largest
        usual = float((plain[name] - values).abs().max()) / largest
        if not error <= max(2 * usual, 1e-6):
            found.append(f"{name}: {error:.1g}, plain PyTorch {usual:.1g}")
    return found


def library_of(folder: Path, path: Path) -> ctypes.CDLL:
    """The loss alone, compiled from the sources in a folder."""
    main = folder / "loss_alone.cpp"
    main.write_text(
        '#include "loss.h"\nextern "C" __attribute__((visibility("default"))) int unept_loss(const UneptLoss* loss, '
        "int threads) { return unept::loss(*loss, threads); }\n"
    )
    compile_to(path, "-O1", "-march=native", "-fopenmp", "-fPIC", "-shared", "-Wno-psabi", folder=folder, main=main)
    return native_loss.declared(ctypes.CDLL(str(path)))
