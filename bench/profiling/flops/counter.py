"""Parameters and operations of a model, part by part, counted on the meta device: no weights, no data, no time.

One forward pass gives two conventions. `module` is what the paper's tool counts
(`bench.profiling.flops.mmcv_counter`). `complete` looks at every operator that runs: convolutions, matrix products,
attention, and sampling at computed positions, each by formula (`bench.profiling.flops.formulas`), and products that are
written as a multiplication and a sum (`bench.profiling.flops.products`). Beside both stand the elements that
element-wise operators compute. An operator without a formula that is not listed as free is an error, never a silent
zero.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from bench.profiling.flops import formulas, mmcv_counter
from bench.profiling.flops.formulas import UncountedError
from bench.profiling.flops.products import ProductTracker
from unept.ops import MACS

SAMPLING_OPERATORS = frozenset(("aten::grid_sampler_2d", "aten::grid_sampler_3d", *MACS))
OWN_PART = "(own)"  # what a model computes or holds outside its children


@dataclass(frozen=True, kw_only=True)
class PartOperations:
    """A child of the model by name: parameters, and 1e9 multiply-adds in both conventions."""

    name: str
    parameters: int
    module_gmacs: float
    gmacs: float


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Operations of one image, in 1e9 multiply-adds; GFLOPs are twice as many.

    Attributes:
        module_gmacs: The paper's convention.
        matrix_gmacs: Convolutions, matrix products and attention.
        sampling_gmacs: Sampling at computed positions.
        elementwise_gops: Elements that element-wise operators give, in 1e9, without multiplications that are counted as
            part of a product. No multiply-adds, and in no convention.
        parameters: Number of parameters.
        parts: The same by child of the model.
    """

    module_gmacs: float
    matrix_gmacs: float
    sampling_gmacs: float
    elementwise_gops: float = 0.0
    parameters: int = 0
    parts: tuple[PartOperations, ...] = ()

    @property
    def gmacs(self) -> float:
        """Multiply-adds in the complete convention, in 1e9."""
        return self.matrix_gmacs + self.sampling_gmacs

    @property
    def is_mostly_elementwise(self) -> bool:
        """True where at least as many elements are computed one by one as multiply-adds are counted."""
        return 0 < self.elementwise_gops >= self.gmacs

    @property
    def gflops(self) -> float:
        """Floating-point operations in the complete convention, in 1e9: two per multiply-add."""
        return 2 * self.gmacs

    @property
    def module_gflops(self) -> float:
        """Twice `module_gmacs`. The paper's "GFLOPs" are `module_gmacs` itself."""
        return 2 * self.module_gmacs


def count_model(model: nn.Module, size: tuple[int, int]) -> Operations:
    """Count one image in evaluation mode.

    Args:
        model: A network on the meta device.
        size: Height and width of the image, in pixels.

    Raises:
        UncountedError: An operator has no formula; the message names it and the part that called it.
    """
    counter = _Counter()
    handles = [handle for name, module in model.named_modules() for handle in counter.watch(name, module)]
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            model.eval()(torch.zeros(1, 3, *size, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in model.named_children()]
    names += [OWN_PART] * (OWN_PART in counter.complete or any("." not in name for name, _ in model.named_parameters()))
    return Operations(
        module_gmacs=sum(counter.module.values()) / 1e9,
        matrix_gmacs=(sum(counter.complete.values()) - counter.sampling) / 1e9,
        sampling_gmacs=counter.sampling / 1e9,
        elementwise_gops=counter.elementwise / 1e9,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        parts=tuple(
            PartOperations(
                name=name,
                parameters=_parameters(model, name),
                module_gmacs=counter.module.get(name, 0) / 1e9,
                gmacs=counter.complete.get(name, 0) / 1e9,
            )
            for name in names
        ),
    )


class _Counter(TorchDispatchMode):
    """Dispatch mode that adds up the cost of operators by part, and by hooks that of modules."""

    def __init__(self) -> None:
        super().__init__()
        self.complete: dict[str, int] = {}
        self.module: dict[str, int] = {}
        self.sampling = 0
        self.elementwise = 0
        self._products = ProductTracker()
        self._inside = [OWN_PART]
        self._called = [""]

    def watch(self, name: str, module: nn.Module) -> Sequence[Any]:
        """Add hooks that follow which part runs and count the module if the paper's tool does; return the handles."""
        part = name.partition(".")[0] or OWN_PART

        def enter(*_: Any) -> None:
            self._inside.append(part)
            self._called.append(name)

        def leave(module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
            self._inside.pop()
            self._called.pop()
            if args and isinstance(args[0], Tensor) and isinstance(result, Tensor) and mmcv_counter.is_counted(module):
                self._add(self.module, part, mmcv_counter.module_operations(module, args[0], result))

        return module.register_forward_pre_hook(enter), module.register_forward_hook(leave)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not formulas.is_known(func):
            if _decomposes(func):
                with self:
                    return func.decompose(*args, **kwargs)
            raise UncountedError(self._message(func._schema.name))
        result = func(*args, **kwargs)
        macs = formulas.count_macs(func, args, kwargs, result)
        products = self._products.follow(func, args, kwargs, result)
        self._add(self.complete, self._inside[-1], macs + products)
        self.sampling += macs if func._schema.name in SAMPLING_OPERATORS else 0
        self.elementwise += formulas.count_elements(func, result) - products
        return result

    def _message(self, operator: str) -> str:
        caller = f" in {self._called[-1]}" if self._called[-1] else ""
        return (
            f"operator {operator}{caller} is neither counted nor free; "
            "torch.utils.flop_counter.register_flop_formula gives it a formula"
        )

    @staticmethod
    def _add(total: dict[str, int], part: str, macs: int) -> None:
        if macs:
            total[part] = total.get(part, 0) + macs


@functools.cache
def _decomposes(func: Any) -> bool:
    """Return True for an operator that is written in terms of others, which are then counted."""
    return func.has_kernel_for_dispatch_key(torch.DispatchKey.CompositeImplicitAutograd)


def _parameters(model: nn.Module, part: str) -> int:
    """Return the parameters of one child, or of the model outside its children; shared ones count where they come
    first.
    """
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if (name.partition(".")[0] if "." in name else OWN_PART) == part
    )
