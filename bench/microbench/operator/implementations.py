"""Implementations of deformable attention with the same inputs and result, and what to install where one is missing.

Every implementation starts from offsets and logits and holds its own softmax and its own arithmetic of locations.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from bench.errors import message_line
from unept.ops import Shapes, cpu_build, cpu_ops, reference

OperatorCall = Callable[[Tensor, Tensor, Tensor, Tensor, Shapes], Tensor]
OURS = "native"


@dataclass(frozen=True, kw_only=True)
class OperatorImplementation:
    """An implementation of the operator; `run` is None where it is not installed, and `missing` says what to do."""

    name: str
    run: OperatorCall | None
    missing: str = ""


def operator_implementations() -> list[OperatorImplementation]:
    """Return all of them, ours first. Builds the kernel if that has not been done."""
    problem = cpu_build.problem()
    ours = OperatorImplementation(name=OURS, run=None, missing=f"the native kernel is not there: {problem}")
    return [
        ours if problem else OperatorImplementation(name=OURS, run=cpu_ops.msda),
        OperatorImplementation(name="reference", run=reference.msda),
        _side("mmcv", _mmcv, "pip install 'mmcv-lite>=2.2,<3'"),
        _side(
            "torch-ms-deform-attn",
            _torch_ms_deform_attn,
            "pip install --no-deps --no-build-isolation torch-ms-deform-attn",
        ),
    ]


def _side(name: str, find: Callable[[], OperatorCall], line: str) -> OperatorImplementation:
    """Return the implementation, or one without `run` where it is not installed, or installed for another torch."""
    try:
        return OperatorImplementation(name=name, run=find())
    except (ImportError, OSError) as error:
        return OperatorImplementation(
            name=name, run=None, missing=f"{name} is not installed ({message_line(error, 200)}): {line}"
        )


def _mmcv() -> OperatorCall:
    """Return mmcv's function in plain PyTorch."""
    function = _mmcv_operator()

    def run(value: Tensor, reference_points: Tensor, offsets: Tensor, logits: Tensor, shapes: Shapes) -> Tensor:
        locations, weights = reference.materialised(reference_points, offsets, logits, shapes)
        return function(value, shapes, locations, weights)

    return run


@cache
def _mmcv_operator() -> Callable[..., Tensor]:
    """Return `multi_scale_deformable_attn_pytorch`, from an mmcv with or without its compiled part.

    Without it the import of `mmcv.ops` asks for functions that are not there; during that import it is given some that
    refuse by name.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what mmcv.ops imports: not ours to mend
        loader: Any = importlib.import_module("mmcv.utils.ext_loader")
        usual = loader.load_ext
        if importlib.util.find_spec("mmcv._ext") is None:
            loader.load_ext = lambda *_: _Absent()
        try:
            module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
        finally:
            loader.load_ext = usual
    return module.multi_scale_deformable_attn_pytorch


class _Absent:
    """Stand-in for mmcv's compiled functions where there are none."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def refuse(*_: object, **__: object) -> None:
            raise RuntimeError(f"this mmcv has no compiled {name}")

        return refuse


def _torch_ms_deform_attn() -> OperatorCall:
    """Return the C++ operator of torch-ms-deform-attn."""
    function = importlib.import_module("torch_ms_deform_attn").ms_deform_attn

    @cache
    def layout(shapes: Shapes) -> tuple[Tensor, Tensor]:
        sizes = torch.tensor(shapes)
        tokens = sizes.prod(1)
        return sizes, tokens.cumsum(0) - tokens

    def run(value: Tensor, reference_points: Tensor, offsets: Tensor, logits: Tensor, shapes: Shapes) -> Tensor:
        return function(value, *layout(shapes), *reference.materialised(reference_points, offsets, logits, shapes))

    return run
