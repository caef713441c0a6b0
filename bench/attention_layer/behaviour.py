"""Checks of an attention's results and what they depend on: sizes, other images, chance, order, padding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from bench.attention_layer.attention_under_test import (
    AttentionCall,
    AttentionUnderTest,
    Shapes,
    format_sizes,
    relative_change,
)
from bench.attention_layer.result import CheckLine

ODD_SHAPES: tuple[tuple[Shapes, ...], ...] = (
    (((7, 5),), ((1, 9),), ((1, 1),)),
    (((7, 5), (4, 3)),),
    (((7, 5), (4, 3), (1, 1)),),
)
TOLERANCE: Mapping[torch.dtype, float] = {torch.float64: 1e-9, torch.float32: 1e-4}  # of the largest number


def check_shapes(subject: AttentionUnderTest) -> CheckLine:
    """Check that the result is a finite tensor like the tokens, and that the inputs are unchanged, in both modes."""
    tried = []
    for levels, cases in enumerate(ODD_SHAPES[: subject.levels], start=1):
        for case in cases:
            for training in (False, True):
                call = subject.call(case)
                before = {name: tensor.clone() for name, tensor in call.present_tensors.items()}
                module = subject.perturbed(levels=levels).train(training)
                wrong = _wrong(call(module), call, before)
                if wrong:
                    mode = "training" if training else "evaluation"
                    return CheckLine(status="FAIL", name="shapes", text=f"{wrong}, at {format_sizes(case)} in {mode}")
        tried.append(f"L={levels} ({', '.join(map(format_sizes, cases))})")
    return CheckLine(status="PASS", name="shapes", text=f"(2, S, C) and finite at {', '.join(tried)}, in both modes")


def _wrong(result: Any, call: AttentionCall, before: Mapping[str, Tensor]) -> str:
    first = call.query_tensor
    if not isinstance(result, Tensor):
        return f"the result is of type {type(result).__name__}, expected a tensor"
    if result.shape != first.shape:
        return f"the result is {tuple(result.shape)}, expected {tuple(first.shape)}"
    if result.dtype != first.dtype:
        return f"the result is {result.dtype}, expected {first.dtype}"
    if not result.isfinite().all():
        return "the result is not finite"
    changed = [name for name, tensor in call.present_tensors.items() if not torch.equal(tensor, before[name])]
    return f"{' and '.join(changed)} changed in place: the layer needs them afterwards" if changed else ""


@torch.no_grad()
def check_finite_results(subject: AttentionUnderTest, maps: Shapes) -> CheckLine:
    """Check that the results are finite in both modes, at maps as they are trained on."""
    name = "finite results"
    for training in (False, True):
        result = subject.call(maps).call_on_copies(subject.perturbed().train(training))
        if not (isinstance(result, Tensor) and result.isfinite().all()):
            mode = "training" if training else "evaluation"
            return CheckLine(
                status="FAIL", name=name, text=f"the result is not finite, at {format_sizes(maps)} in {mode}"
            )
    return CheckLine(status="PASS", name=name, text=f"at {format_sizes(maps)}, in both modes")


def check_batch_independence(subject: AttentionUnderTest) -> CheckLine:
    """Check that an image's result is the same alone and beside other images."""
    dtype = subject.widest_dtype()
    shapes = ((7, 5), (4, 3), (3, 2))[: subject.levels]
    module = subject.perturbed(dtype)
    call = subject.call(shapes, batch=3, dtype=dtype)
    largest = max(
        change_when_alone(module, call),
        change_beside_others(module, call, subject.call(shapes, batch=3, seed=1, dtype=dtype)),
    )
    summary = f"largest change {largest:.2g}" if largest else "largest change 0"
    passed = largest <= TOLERANCE[dtype]
    text = f"{summary} of the largest result, when an image of 3 is taken alone or beside others"
    text += f", at {format_sizes(shapes)}"
    return CheckLine(status="PASS" if passed else "FAIL", name="batch independence", text=text)


@torch.no_grad()
def change_when_alone(module: nn.Module, call: AttentionCall) -> float:
    """Return the largest relative change of an image's result when it is the only one of its batch."""
    together = call.call_on_copies(module)
    images = range(len(call.query_tensor))
    return max(
        relative_change(call.with_tensors(**_images(call, i, i + 1)).call_on_copies(module), together[i : i + 1])
        for i in images
    )


@torch.no_grad()
def change_beside_others(module: nn.Module, call: AttentionCall, other: AttentionCall) -> float:
    """Return the largest relative change of the first image's result when the others are those of `other`."""
    mixed = {
        name: torch.cat((tensor[:1], other.present_tensors[name][1:])) for name, tensor in call.present_tensors.items()
    }
    return relative_change(call.with_tensors(**mixed).call_on_copies(module)[:1], call.call_on_copies(module)[:1])


def _images(call: AttentionCall, first: int, end: int) -> dict[str, Tensor]:
    return {name: tensor[first:end] for name, tensor in call.present_tensors.items()}


@torch.no_grad()
def check_determinism(subject: AttentionUnderTest) -> CheckLine:
    """Check that three calls in evaluation mode, with other random numbers each, give the same bits."""
    shapes = ((7, 5), (4, 3), (3, 2))[: subject.levels]
    module, call = subject.perturbed(), subject.call(shapes)
    expected = call.call_on_copies(module)
    results = [call.call_on_copies(module, seed) for seed in (1, 2)]
    largest = max(relative_change(result, expected) for result in results)
    same = all(torch.equal(result, expected) for result in results)
    text = f"largest change {largest:.2g} over 3 calls in evaluation" if not same else "the same bits in 3 calls"
    return CheckLine(status="PASS" if same else "FAIL", name="determinism in evaluation", text=text)


@torch.no_grad()
def check_permutation(subject: AttentionUnderTest, side: int) -> CheckLine:
    """Report whether tokens that change places within their levels, with their positions, take their results along.

    Args:
        subject: The attention under test.
        side: Side of the first map, in tokens.
    """
    dtype, maps = subject.widest_dtype(), ((side, side), *[(side // 3, side // 3)] * (subject.levels - 1))
    module, call = subject.perturbed(dtype), subject.call(maps, batch=1, dtype=dtype)
    order = _shuffled(maps)
    shuffled = ("memory",) if subject.is_cross else ("tokens", "position")
    reordered = {name: tensor[:, order] for name, tensor in call.present_tensors.items() if name in shuffled}
    expected = call.call_on_copies(module)
    largest = relative_change(
        call.with_tensors(**reordered).call_on_copies(module), expected if subject.is_cross else expected[:, order]
    )
    follows = largest <= TOLERANCE[dtype]
    content = "the memory's tokens" if subject.is_cross else " and ".join(reordered).replace("position", "positions")
    effect = "changes nothing" if subject.is_cross else "moves the results along"
    if not follows:
        effect = f"changes results by up to {largest:.2g} of the largest: their order or place counts"
    return CheckLine(
        status="INFO",
        name="permutation",
        text=f"shuffling {content} within each level {effect}, at {format_sizes(maps)}",
    )


def _shuffled(shapes: Shapes) -> Tensor:
    generator, indices, start = torch.Generator().manual_seed(0), [], 0
    for height, width in shapes:
        indices.append(start + torch.randperm(height * width, generator=generator))
        start += height * width
    return torch.cat(indices)


@torch.no_grad()
def check_padding(subject: AttentionUnderTest, side: int) -> CheckLine:
    """Report how far one more row and column, at the bottom and the right of each map, change the results.

    The model does that to an image whose sides are no multiples of 16 pixels, and masks nothing: the padding takes
    part. The new tokens are 0 here, and the old ones keep their positions.

    Args:
        subject: The attention under test.
        side: Side of the first map, in tokens.
    """
    dtype, maps = subject.widest_dtype(), ((side, side), *[(side // 3, side // 3)] * (subject.levels - 1))
    grown = tuple((height + 1, width + 1) for height, width in maps)
    module, call = subject.perturbed(dtype), subject.call(maps, batch=1, dtype=dtype)
    larger = subject.call(grown, batch=1, dtype=dtype)
    inside = _old_places(maps)
    own = {"queries": _old_places(maps[:1])}
    for name, tensor in call.present_tensors.items():
        content = (
            larger.present_tensors[name].clone()
            if name == "position"
            else torch.zeros_like(larger.present_tensors[name])
        )
        content[:, own.get(name, inside)] = tensor
        larger = larger.with_tensors(**{name: content})
    before, after = (
        call.call_on_copies(module),
        larger.call_on_copies(module)[:, own["queries"] if subject.is_cross else inside],
    )
    size = before.abs().max().clamp(min=torch.finfo(dtype).tiny)
    changes = (after - before).abs().amax(-1) / size
    if not changes.isfinite().all():
        return CheckLine(status="FAIL", name="padding", text=f"results are not finite at {format_sizes(grown)}")
    share, largest = (changes > TOLERANCE[dtype]).double().mean().item(), changes.max().item()
    text = f"a row and a column of zeros more on {format_sizes(maps)} change {share:.0%} of the other results"
    return CheckLine(
        status="INFO", name="padding", text=f"{text}, by up to {largest:.2g} of the largest" if share else text
    )


def _old_places(shapes: Shapes) -> Tensor:
    """Return the indices of the tokens of `shapes` in the sequence of maps that have one more row and column."""
    indices, start = [], 0
    for height, width in shapes:
        grid = torch.arange((height + 1) * (width + 1)).view(height + 1, width + 1)
        indices.append(start + grid[:height, :width].flatten())
        start += (height + 1) * (width + 1)
    return torch.cat(indices)


class PadWith(TorchDispatchMode):
    """Dispatch mode in which floating-point tensors are padded with `value` where they would be padded with 0."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation, with another filling if it is a padding with zeros."""
        kwargs = kwargs or {}
        if func is torch.ops.aten.constant_pad_nd.default and args[0].is_floating_point() and 0 in (*args[2:], 0)[:1]:
            return func(*args[:2], self.value)
        return func(*args, **kwargs)


@torch.no_grad()
def check_inner_padding(subject: AttentionUnderTest) -> CheckLine:
    """Report whether the filling with which the attention itself pads its tensors shows in a result."""
    dtype = subject.widest_dtype()
    shapes = ((7, 5), (4, 3), (3, 2))[: subject.levels]
    module, call = subject.perturbed(dtype), subject.call(shapes, dtype=dtype)
    expected = call.call_on_copies(module)
    with PadWith(3.0):
        largest = relative_change(call.call_on_copies(module), expected)
    seen = largest > TOLERANCE[dtype]
    text = f"seen: 3 in place of 0 changes results by {largest:.2g} of the largest" if seen else "none is seen"
    return CheckLine(status="INFO", name="padding of its own", text=f"{text}, at {format_sizes(shapes)}")
