"""Self-test of the CUDA kernels against the reference, once for each device and library.

``python -m unept.ops.cuda_selftest LIBRARY DEVICE`` runs the test and prints its verdict, a JSON string: "" or the
first error. `verdict` runs that in a process of its own, since a faulty kernel can make the device unusable for its
process, and keeps the answer in a small JSON file beside the library.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from unept.ops import reference
from unept.ops.cuda_build import Unavailable
from unept.ops.cuda_library import Kernel
from unept.ops.reference import Shapes
from unept.ops.validation import computed_in
from unept.utils.atomic_files import atomic_write
from unept.utils.file_locks import LockBusy, file_lock
from unept.utils.messages import first_error_line

OFF_LINES = 1e-3  # pixels; on a pixel line itself a gradient may jump
PATIENCE = 600  # seconds, for a whole test
# Shapes, queries, heads, channels of a head, points, and type: the widths of every kernel, and warps that are not full.
CASES: tuple[tuple[Shapes, int, int, int, int, torch.dtype], ...] = (
    (((6, 9), (3, 5), (2, 2)), 7, 3, 32, 4, torch.float32),
    (((5, 4),), 3, 1, 16, 16, torch.float32),
    (((4, 3), (2, 3)), 5, 2, 64, 3, torch.float32),
    (((4, 3),), 5, 1, 160, 1, torch.float32),
    (((4, 3),), 3, 2, 5, 4, torch.float32),
    (((4, 3),), 3, 2, 37, 9, torch.float32),
    (((6, 9), (3, 5)), 5, 2, 32, 4, torch.float64),
    (((6, 9), (3, 5)), 5, 2, 32, 4, torch.bfloat16),
    (((6, 9), (3, 5)), 5, 2, 32, 4, torch.float16),
)


class Inputs(NamedTuple):
    """Arguments of one call of the kernels; everything but the value in the type of the computation."""

    value_BSHD: Tensor
    reference_Q2: Tensor
    offsets_BQHLP2: Tensor
    logits_BQHLP: Tensor
    gradient_BQC: Tensor
    shapes: Shapes

    @property
    def sides(self) -> list[int]:
        """Height and width of each level in turn."""
        return [side for shape in self.shapes for side in shape]


def make_inputs(
    shapes: Shapes,
    queries: int,
    heads: int,
    channels: int,
    points: int,
    dtype: torch.dtype = torch.float32,
    *,
    batch: int = 2,
    seed: int = 0,
) -> Inputs:
    """Make random inputs on the CPU, the same for the same arguments.

    Points lie in and around the maps, off the pixel lines, where the gradient is continuous.

    Args:
        shapes: (height, width) of each level.
        queries: Number of queries, Q.
        heads: Number of heads, H.
        channels: Channels of a head, D.
        points: Points per level and head, P.
        dtype: Type of the values; the other tensors have the type of the computation.
        batch: Number of images, B.
        seed: Seed of the generator.
    """
    generator = torch.Generator().manual_seed(seed)
    B, Q, H, D, L, P = batch, queries, heads, channels, len(shapes), points
    reference = torch.rand(Q, 2, generator=generator, dtype=torch.float64)
    offsets = 2.5 * torch.randn(B, Q, H, L, P, 2, generator=generator, dtype=torch.float64)
    sizes_L12 = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float64).view(L, 1, 2)
    pixels = reference[:, None, None, None] * sizes_L12 - 0.5 + offsets
    offsets = offsets + 3 * OFF_LINES * ((pixels - pixels.round()).abs() < 2 * OFF_LINES)
    value = torch.randn(B, sum(h * w for h, w in shapes), H, D, generator=generator, dtype=torch.float64)
    logits = torch.randn(B, Q, H, L, P, generator=generator, dtype=torch.float64)
    gradient = torch.randn(B, Q, H * D, generator=generator, dtype=torch.float64)
    wide = computed_in(dtype)
    reference, offsets, logits, gradient = (tensor.to(wide) for tensor in (reference, offsets, logits, gradient))
    return Inputs(value.to(dtype), reference, offsets, logits, gradient, shapes)


def expected(inputs: Inputs, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Return the reference's result and its gradients by value, offsets and logits, computed in ``dtype``."""
    leaves = [inputs.value_BSHD, inputs.offsets_BQHLP2, inputs.logits_BQHLP]
    value, offsets, logits = (tensor.to(dtype).requires_grad_() for tensor in leaves)
    out = reference.msda(value, inputs.reference_Q2.to(dtype), offsets, logits, inputs.shapes)
    gradients = torch.autograd.grad(out, (value, offsets, logits), inputs.gradient_BQC.to(dtype))
    return (out.detach(), *gradients)


def outcome(kernel: Kernel, inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the kernels' result and gradients for the same inputs, on the CPU."""
    arguments = [tensor.to(kernel.device) for tensor in inputs[:4]]
    result, softmax = kernel.forward(*arguments, inputs.sides)  # type: ignore[call-arg, arg-type]
    gradient = inputs.gradient_BQC.to(kernel.device)
    gradients = kernel.backward(gradient, *arguments, result, softmax, inputs.sides)  # type: ignore[call-arg, arg-type]
    return tuple(tensor.cpu() for tensor in (result, *gradients))


def disagreement(kernel: Kernel, inputs: Inputs) -> str:
    """Return the first error of the kernels in one line, or "".

    They may differ from the double-precision reference by twice the error of the single-precision reference, plus a few
    units in the last place of the largest number; doubles by 1e-12 of it.
    """
    stored = inputs.value_BSHD.dtype
    wide = computed_in(stored)
    truth = expected(inputs, torch.float64)
    single = truth if wide == torch.float64 else expected(inputs, wide)
    products_BQC = truth[0] * inputs.gradient_BQC  # the logits' gradients are differences of sums of these
    per_head = products_BQC.unflatten(-1, inputs.value_BSHD.shape[2:]).sum(-1).abs()
    taken_off = per_head.amax().item() if per_head.numel() else 0.0
    names = ("the result", "the gradient of the value", "the gradient of the offsets", "the gradient of the logits")
    for name, ours, theirs, exact in zip(names, outcome(kernel, inputs), single, truth, strict=True):
        if exact.numel() == 0:
            continue
        few = 1e-12 if wide == torch.float64 else 4 * torch.finfo(ours.dtype).eps
        scale = max(exact.abs().max().item(), taken_off if name.endswith("logits") else 0)
        error, limit = (ours - exact).abs().max().item(), 2 * (theirs - exact).abs().max().item() + few * scale
        if not error <= limit:
            where = f"{stored}, value {tuple(inputs.value_BSHD.shape)}"
            return f"{name} is off by {error:.2g} ({limit:.2g} allowed), {where}"
    return ""


def self_test(kernel: Kernel) -> str:
    """Return the first error of the kernels over `CASES`, or ""."""
    for case in CASES:
        if said := disagreement(kernel, make_inputs(*case)):
            return said
    return ""


def card_name(device: torch.device) -> str:
    """Return a text that identifies the device and torch's CUDA version."""
    if device.type != "cuda":
        return str(device)
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {getattr(properties, 'uuid', device.index)}, CUDA {torch.version.cuda}"


def verdict(path: Path, device: torch.device) -> str:
    """Return the error of the library at ``path`` on ``device``, or "".

    Read from the file beside it, or tested and written.

    Unavailable if the test cannot be completed; nothing is written then.
    """
    record, card = path.with_suffix(".checked.json"), card_name(device)
    known = _read(record)
    if card not in known:
        said = _tested(path, device)
        try:
            with file_lock(path.with_suffix(".checked.lock"), timeout=PATIENCE):
                known = {**_read(record), card: said}
                atomic_write(record, json.dumps(known, indent=1).encode())
        except (OSError, LockBusy):  # a cache that cannot be written: the next process tests again
            known = {card: said}
    return f"{known[card]} (written in {record})" if known[card] else ""


def _tested(path: Path, device: torch.device) -> str:
    command = [sys.executable, "-m", "unept.ops.cuda_selftest", str(path), str(device)]
    roots = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": roots},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        said = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise Unavailable(f"their test cannot run: {first_error_line(str(error))}") from error
    if not isinstance(said, str):
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
        raise Unavailable(f"their test broke off: {last[:300]}")
    return said


def _read(record: Path) -> dict[str, str]:
    """Return the verdicts in a file; none if there is no such file or it is damaged."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(card): said for card, said in known.items() if isinstance(said, str)} if isinstance(known, dict) else {}


def main(library: str, device: str) -> None:
    """Run the test and print the verdict."""
    print(json.dumps(self_test(Kernel.load(Path(library), torch.device(device)))))


if __name__ == "__main__":
    main(*sys.argv[1:])
