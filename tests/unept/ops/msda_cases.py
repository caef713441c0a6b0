"""Inputs, an independent truth, and the checker that a kernel of multi-scale deformable attention has to pass."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from locations import GOLDEN
from safetensors.torch import load_file
from torch import Tensor

from bench.microbench.operator.cases import OperatorCase
from bench.microbench.operator.inputs import make_inputs
from unept.ops import cpu_build, cpu_ops, reference
from unept.ops.reference import Shapes

GOLDEN_FILE = GOLDEN / "attn_op.safetensors"
NAMES = ("result", "value gradient", "offset gradient", "logit gradient")


# Rows of less than a vector, of whole vectors and of both; blocks that are full, broken and single; a large table.
CASES = (
    OperatorCase(((3, 4), (2, 2)), batch=2),
    OperatorCase(((7, 5),), queries=1, heads=1, channels=1, points=1),
    OperatorCase(((12, 12),) * 3, batch=2, queries=33, heads=3, channels=32, points=16),
    OperatorCase(((5, 9), (3, 3), (1, 7)), batch=3, queries=17, heads=3, channels=33, points=4),
    OperatorCase(((5, 9),), batch=2, queries=70, channels=64, points=5),
    OperatorCase(((8, 3), (4, 4)), queries=9, channels=20, points=2, spread=30.0),
    OperatorCase(((6, 5),), queries=3, heads=1, channels=250, points=200),
    OperatorCase(((71, 57),), queries=13, heads=1, channels=33, points=7),  # a table whose corners are prefetched
)


def truth(value: Tensor, place: Tensor, offsets: Tensor, logits: Tensor, shapes: Shapes) -> Tensor:
    """The operator by indexing, corner by corner; shares no code with the package."""
    B, _, H, D = value.shape
    Q = logits.shape[1]
    weights = torch.exp(logits - logits.amax((3, 4), keepdim=True))
    weights = weights / weights.sum((3, 4), keepdim=True)
    image = torch.arange(B)[:, None, None, None]
    head = torch.arange(H)[None, None, :, None]
    out, start = value.new_zeros(B, Q, H, D), 0
    for level, (height, width) in enumerate(shapes):
        x = place[None, :, None, None, 0] * width - 0.5 + offsets[:, :, :, level, :, 0]
        y = place[None, :, None, None, 1] * height - 0.5 + offsets[:, :, :, level, :, 1]
        for step_y in (0, 1):
            for step_x in (0, 1):
                column, row = x.detach().floor() + step_x, y.detach().floor() + step_y
                share = (1 - (x - column).abs()) * (1 - (y - row).abs()) * weights[:, :, :, level]
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                pixel = start + row.clamp(0, height - 1).long() * width + column.clamp(0, width - 1).long()
                out = out + (value[image, pixel, head] * (share * inside)[..., None]).sum(3)
        start += height * width
    return out.flatten(2)


def assert_golden(run: Callable[..., Sequence[Tensor]]) -> None:
    """That `run(value, place, offsets, logits, gradient, shapes)` gives the authors' result and gradients."""
    golden = load_file(GOLDEN_FILE)
    shapes = tuple((int(height), int(width)) for height, width in golden["shapes"])
    sizes = torch.tensor([(w, h) for h, w in shapes])[:, None]
    place = torch.zeros(golden["loc"].shape[1], 2, dtype=torch.float64)
    offsets, logits = (golden["loc"] * sizes).contiguous(), golden["attn"].log()
    out, by_value, by_offsets, by_logits = run(golden["value"], place, offsets, logits, golden["w"], shapes)
    assert (out - golden["out"]).abs().max() <= 1e-10
    assert (by_value - golden["grad_value"]).abs().max() <= 1e-10
    assert (by_offsets * sizes - golden["grad_loc"]).abs().max() <= 1e-9
    mean = (golden["attn"] * golden["grad_attn"]).sum((3, 4), keepdim=True)  # the derivative of the softmax
    assert (by_logits - golden["attn"] * (golden["grad_attn"] - mean)).abs().max() <= 1e-10


def derived(run: Callable[..., Tensor], tensors: list[Tensor], shapes: Shapes) -> list[Tensor]:
    """The result and the gradients by value, offsets and logits."""
    value, place, offsets, logits, gradient = tensors
    leaves = [tensor.clone().requires_grad_() for tensor in (value, offsets, logits)]
    out = run(leaves[0], place, *leaves[1:], shapes)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]


def complaints(case: OperatorCase, dtype: torch.dtype = torch.float32) -> list[str]:
    """Where the native kernel errs more than twice as much as the reference does in the same type; [] if nowhere.

    Four roundings of the largest number are allowed besides: where the reference is right by chance to the last bit,
    twice its error says nothing.
    """
    exact = derived(truth, make_inputs(case), case.shapes)
    tensors = make_inputs(case, dtype)
    ours, theirs = (derived(run, tensors, case.shapes) for run in (cpu_ops.msda, reference.msda))
    # a logit's gradient is a difference of two numbers of about this size
    differ = _largest((exact[0] * make_inputs(case)[4]).abs().unflatten(-1, (case.heads, -1)).sum(-1))
    wrong = []
    for name, one, other, right in zip(NAMES, ours, theirs, exact, strict=True):
        error, allowed = _largest(one - right), 2 * _largest(other - right)
        size = max(_largest(right), differ if name == "logit gradient" else 0.0)
        allowed += 4 * torch.finfo(dtype).eps * size
        if not error <= allowed:
            wrong.append(f"{name} is off by {error:.2e}, allowed {allowed:.2e}, in {case}")
    return wrong


def strange() -> list[str]:
    """Complaints about points that are not finite, far away, or weighed with nothing; [] if there are none."""
    case = OperatorCase(((4, 5), (3, 2)), queries=6, heads=1)
    value, place, offsets, logits, gradient = make_inputs(case, torch.float32)
    for query, bad in enumerate((float("nan"), float("inf"), -float("inf"), 1e30, -1e6)):
        offsets[0, query, 0, 0, 1, query % 2] = bad
    logits[0, 5, 0, 1, 2] = -float("inf")
    tensors = [value, place, offsets, logits, gradient]
    ours, theirs = (derived(run, tensors, case.shapes) for run in (cpu_ops.msda, reference.msda))
    return [
        f"{name} with strange points"
        for name, one, other in zip(NAMES, ours, theirs, strict=True)
        if not torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    ]


def _largest(tensor: Tensor) -> float:
    return tensor.double().abs().max().item() if tensor.numel() else 0.0


def compile_to(
    path: Path, *flags: str, folder: Path | None = None, main: Path | None = None, compiler: str = "g++"
) -> Path:
    """Compile the kernel, or a program that includes it, with these flags alone."""
    folder = folder or cpu_build.sources()
    command = [compiler, "-std=c++17", "-fno-strict-aliasing", "-Wall", "-Wextra", "-Werror", *flags, f"-I{folder}"]
    command += ["-o", str(path), str(main or folder / cpu_build.MAIN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[:2000]
    return path


@contextmanager
def using(path: Path) -> Iterator[ctypes.CDLL]:
    """For the time of it the operators call the library at ``path``."""
    library = cpu_ops.declared(ctypes.CDLL(str(path)))
    usual, cpu_ops._library = cpu_ops._library, lambda: library
    try:
        yield library
    finally:
        cpu_ops._library = usual
