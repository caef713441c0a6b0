"""Cost and receptive field of a layer, at the width and the heads of the model: counted, predicted, measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from bench.attention_layer.attention_under_test import AttentionCall, AttentionUnderTest, Shapes, format_sizes
from bench.attention_layer.result import CheckLine, describe_exception
from bench.profiling.flops.counter import Operations, count_model
from bench.profiling.memory.layer_peak import LayerPeak, call_peak, power_law_exponent
from bench.profiling.receptive_field import dependency_mask, measure_receptive_field
from bench.units import GIB

MIN_IDLE_SHARE = 0.005  # of the parameters: fewer are rounding, such as the gradient of a bias of all keys
RECEPTIVE_FIELD_SECONDS = 8.0  # seconds for the reach; what takes longer is measured from one token of each level


def check_fake_tensor_trace(subject: AttentionUnderTest, maps: Shapes) -> CheckLine:
    """Check that forward and backward run on tensors that have sizes and no content."""
    name = "fake-tensor trace"
    try:
        with FakeTensorMode():
            module, call = subject.make().train(), subject.call(maps, empty=True)
            for tensor in call.present_tensors.values():
                tensor.requires_grad_()
            result = call(module)
            if result.requires_grad:
                result.sum().backward()
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        text = "a tensor's content decides what is done next (as .item(), .tolist() or nonzero make it)"
        return CheckLine(status="FAIL", name=name, text=f"{text}: {describe_exception(error)}")
    return CheckLine(status="PASS", name=name, text=f"forward and backward at {format_sizes(maps)}, nothing computed")


class _OneCall(nn.Module):
    """An attention as a model of an image that ignores the image."""

    def __init__(self, layer: nn.Module, call: AttentionCall) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, _: Tensor) -> Any:
        """Return the result of the call."""
        return self.layer(*self.call.tensors.values(), *self.call.sizes)


def count_layer_operations(subject: AttentionUnderTest, maps: Shapes, *, batch: int = 1) -> Operations:
    """Count the operations of one layer, in 1e9 multiply-adds.

    Args:
        subject: The attention under test.
        maps: Height and width of each map, in tokens.
        batch: Number of images.

    Raises:
        UncountedError: An operator has no formula.
    """
    with torch.device("meta"):
        layer, call = subject.make(), subject.call(maps, batch=batch, empty=True)
        return count_model(_OneCall(layer, call), (8, 8))


def check_operations(subject: AttentionUnderTest, maps: Shapes) -> CheckLine:
    """Check that every operator is counted or known to be free, and that what is counted is most of the work."""
    counts = count_layer_operations(subject, maps)
    text = f"{counts.gmacs:.3f} GMACs for one image at {format_sizes(maps)}"
    if counts.sampling_gmacs:
        text += f" ({counts.sampling_gmacs:.3f} of them sampling)"
    text += f", and {counts.elementwise_gops:.3f}e9 element-wise operations"
    if counts.is_mostly_elementwise:
        text += ", which are as many or more and in no count of GMACs: compare this attention by time and memory"
    return CheckLine(status="WARN" if counts.is_mostly_elementwise else "PASS", name="operations counted", text=text)


def check_parameters(subject: AttentionUnderTest, maps: Shapes) -> CheckLine:
    """Report the number of parameters in a layer, and the share of them that no result depends on."""
    module, call = subject.perturbed(), subject.call(maps, batch=1)
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    total = sum(parameter.numel() for parameter in module.parameters())
    result = call(module)
    text = f"{total:,} in a layer of width {subject.model.width}"
    if weights and result.requires_grad:
        like = torch.randn(result.shape, generator=torch.Generator().manual_seed(3))
        gradients = torch.autograd.grad(result, weights, like, materialize_grads=True)
        idle = sum(int((gradient == 0).sum()) for gradient in gradients) / max(1, total)
        text += f"; {idle:.0%} of them get no gradient at {format_sizes(maps)}" if idle >= MIN_IDLE_SHARE else ""
    return CheckLine(status="INFO", name="parameters", text=text)


def check_memory(subject: AttentionUnderTest, maps: Shapes, sides: Sequence[int]) -> CheckLine:
    """Report the power of the tokens with which the peak of a training step grows, and the peak at `maps`; both
    predicted.
    """
    peaks = [predict_layer_peak(subject, ((side, side),), levels=1).peak for side in sides]
    power, peak_at_maps = power_law_exponent([side * side for side in sides], peaks), predict_layer_peak(subject, maps)
    text = f"grows with the tokens to the power {power:.2f} ({sides[0]}x{sides[0]} to {sides[-1]}x{sides[-1]})"
    text += f"; {peak_at_maps.peak / GIB:.2f} GiB for a layer's training step on one image at {format_sizes(maps)}"
    text += f", dropout {subject.model.dropout:g}; predicted"
    return CheckLine(status="INFO", name="memory exponent", text=text)


def predict_layer_peak(subject: AttentionUnderTest, maps: Shapes, *, batch: int = 1, **changes: Any) -> LayerPeak:
    """Predict the peak in bytes of a training step of one layer, on fake tensors.

    Args:
        subject: The attention under test.
        maps: Height and width of each map, in tokens.
        batch: Number of images.
        **changes: Fields of the model configuration.
    """

    def give() -> tuple[Any, ...]:
        call = subject.call(maps, batch=batch, empty=True)
        for name, tensor in call.present_tensors.items():
            tensor.requires_grad_(name != "position")
        return *call.tensors.values(), *call.sizes

    return call_peak(lambda: subject.make(**changes), give)


class _OfMemory(nn.Module):
    """A cross-attention with fixed queries as a function of the memory alone."""

    def __init__(self, layer: nn.Module, call: AttentionCall) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, memory: Tensor, position: Tensor | None, shapes: Shapes) -> Any:
        """Return the result, (B, Q, C)."""
        del position
        return self.layer(self.call.query_tensor, memory, self.call.sizes[0], shapes)


def check_receptive_field(subject: AttentionUnderTest, maps: Shapes, queries: int) -> CheckLine:
    """Report what a token depends on after one and two layers, from gradients (`bench.profiling.receptive_field`).

    Args:
        subject: The attention under test.
        maps: Height and width of each map, in tokens.
        queries: Tokens of each level to differentiate; 1 where that would take more than RECEPTIVE_FIELD_SECONDS.
    """
    width, name = subject.model.width, "reach after two layers"
    if subject.is_cross:
        indices = torch.arange(0, maps[0][0] * maps[0][1], max(1, maps[0][0] * maps[0][1] // queries))
        layer = _OfMemory(subject.make(), subject.call(maps, batch=1))
        share = dependency_mask([layer], maps, width, indices, residual=False).double().mean().item()
        text = f"a query sees {share:.1%} of the memory in one layer, at {format_sizes(maps)}"
        text += "; cross-attentions have no chain"
        return CheckLine(status="INFO", name=name, text=text)
    make = subject.make if subject.slot == "encoder_self" else lambda layer: _Unplaced(subject.make(layer))
    start, queries_used = time.perf_counter(), 1
    field = measure_receptive_field(make, maps, width, queries_used)
    if (time.perf_counter() - start) * queries < RECEPTIVE_FIELD_SECONDS:
        queries_used = queries
        field = measure_receptive_field(make, maps, width, queries_used)
    own = [row[level] for level, row in enumerate(field.two_layers)]
    text = f"{sum(own) / len(own):.1%} of the tokens of its own level"
    if len(own) > 1:
        others = [share for i, row in enumerate(field.two_layers) for j, share in enumerate(row) if i != j]
        text += f" and {sum(others) / len(others):.1%} of the others"
    text += f"; one layer shows {field.share:.1%} of the other tokens, at {format_sizes(maps)} and initial weights"
    text += f", from {queries_used} token{'s' * (queries_used > 1)} a level"
    return CheckLine(status="INFO", name=name, text=text)


class _Unplaced(nn.Module):
    """A self-attention that is given no positions, as in the decoder."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor, position: Tensor | None, shapes: Shapes) -> Any:
        """Return the result, (B, S, C)."""
        del position
        return self.layer(tokens, None, shapes)
