"""Gradients against finite differences, in double precision and along random directions.

A mechanism that selects (by a hash, by the pixel a sample lies in) is smooth in pieces only. So each direction is tried
with several steps, and one that agrees is enough: a border between two pieces is crossed by few of the small steps, and
a wrong gradient agrees with none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bench.attention_layer.attention_under_test import AttentionCall, AttentionUnderTest, format_sizes
from bench.attention_layer.result import CheckLine

STEPS = (1e-5, 1e-6, 1e-7)
DIRECTIONS = 2  # of every input and every parameter
TOLERANCE = 1e-5  # of the gradient's norm
ROUNDING = 100 * torch.finfo(torch.float64).eps


def check_gradients(subject: AttentionUnderTest) -> CheckLine:
    """Check that every input's and every parameter's gradient is the derivative of the result."""
    module = subject.perturbed(torch.float64)
    call = subject.call(subject.tiny_shapes, dtype=torch.float64)
    errors = largest_gradient_errors(module, call)
    if not errors:
        return CheckLine(status="PASS", name="gradients in float64", text="nothing has a gradient")
    name, worst = max(errors.items(), key=lambda item: item[1])
    if worst > TOLERANCE:
        wrong = [name for name, error in errors.items() if error > TOLERANCE]
        text = f"wrong for {', '.join(wrong[:4])}{' ...' * (len(wrong) > 4)}: off by {worst:.1e} of the norm ({name})"
        return CheckLine(status="FAIL", name="gradients in float64", text=text)
    number, shapes = len(errors), format_sizes(subject.tiny_shapes)
    text = f"off by {worst:.1e} of the norm at most, for {number} inputs and parameters at {shapes}"
    return CheckLine(status="PASS", name="gradients in float64", text=text)


def largest_gradient_errors(module: nn.Module, call: AttentionCall) -> dict[str, float]:
    """Return the largest error over directions, as a share of the gradient's norm, by name of an input or parameter."""
    call = call.with_tensors(**{name: tensor.clone().requires_grad_() for name, tensor in call.present_tensors.items()})
    leaves = call.present_tensors | {
        name: direction for name, direction in module.named_parameters() if direction.requires_grad
    }
    result = call.call_on_copies(module)
    generator = torch.Generator().manual_seed(2)
    cotangent = torch.randn(result.shape, generator=generator, dtype=torch.float64)
    gradients = _gradients(result, leaves, cotangent)
    errors = {}
    for name, tensor in leaves.items():
        directions = torch.randn(DIRECTIONS, *tensor.shape, generator=generator, dtype=torch.float64)
        errors[name] = max(
            _error(module, call, tensor, direction, gradients[name], cotangent) for direction in directions
        )
    return errors


def _gradients(result: Tensor, leaves: Mapping[str, Tensor], cotangent: Tensor) -> dict[str, Tensor]:
    if not result.requires_grad:
        return {name: torch.zeros_like(tensor) for name, tensor in leaves.items()}
    gradients = torch.autograd.grad(result, [*leaves.values()], cotangent, materialize_grads=True)
    return dict(zip(leaves, gradients, strict=True))


@torch.no_grad()
def _error(
    module: nn.Module, call: AttentionCall, tensor: Tensor, direction: Tensor, gradient: Tensor, cotangent: Tensor
) -> float:
    """Return the smallest error over the steps, less what rounding explains; NaN counts as infinite."""
    derivative = (gradient * direction).sum().item()
    start, best = tensor.clone(), float("inf")
    for step in STEPS:
        values = []
        for sign in (1, -1):
            tensor.copy_(start + sign * step * direction)
            values.append(call.call_on_copies(module) * cotangent)
        tensor.copy_(start)
        measured = (values[0] - values[1]).sum().item() / (2 * step)
        rounding = ROUNDING * values[0].abs().sum().item() / step
        scale = max(gradient.norm().item(), abs(measured), torch.finfo(torch.float64).tiny)
        error = max(0.0, abs(measured - derivative) - rounding) / scale
        best = error if error < best else best
        if best <= TOLERANCE / 10:
            break
    return best
