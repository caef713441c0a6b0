"""Deformable attention, native against a grid_sample version: interleaved in one process, medians, a row a shape.

    python tests/benchmarks/bench_msda.py [--threads 2] [--repeats 7] [--default-malloc] [--clock processor] [SHAPE ...]

Both sides start from offsets and logits, and hold softmax and locations; the other side is mmcv's way, a grid_sample
per level, then the weighted sum (`unept.ops.reference.sum_by_grid`). `--clock processor` counts processor time, for a
machine that does something else beside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from bench import environment
from unept import ops
from unept.ops import native, reference

HEADS, CHANNELS, POINTS = 8, 32, 16
# The level's side, the images, and the queries: the shapes of the two backbones at 480 px, and a small one.
SHAPES = {
    "small": (12, 2, 432),
    "deit-encoder": (30, 1, 2700),
    "deit-encoder-2": (30, 2, 2700),
    "r50-decoder": (60, 1, 3600),
    "r50-encoder": (60, 1, 10800),
}
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def inputs(side: int, batch: int, queries: int) -> tuple[list[Tensor], tuple[tuple[int, int], ...]]:
    """Value, reference, offsets of about 4 pixels, logits and a gradient, and the shapes of three levels."""
    generator = torch.Generator().manual_seed(0)
    points = (batch, queries, HEADS, 3, POINTS)
    sizes = ((batch, 3 * side * side, HEADS, CHANNELS), (*points, 2), points, (batch, queries, HEADS * CHANNELS))
    value, offsets, logits, gradient = (torch.randn(size, generator=generator) for size in sizes)
    place = torch.rand(queries, 2, generator=generator)
    return [value, place, 4 * offsets, logits, gradient], ((side, side),) * 3


def by_grid(value: Tensor, place: Tensor, offsets: Tensor, logits: Tensor, shapes: ops.Shapes) -> Tensor:
    """The other side."""
    return reference.msda(value, place, offsets, logits, shapes, total=reference.sum_by_grid)


def timed(run: Callable[..., Tensor], name: str, clock: Callable[[], float]) -> tuple[float, float]:
    """Seconds of a forward pass without gradients, and of a forward and backward pass."""
    (value, place, offsets, logits, gradient), shapes = inputs(*SHAPES[name])
    with torch.no_grad():
        start = clock()
        run(value, place, offsets, logits, shapes)
        forward = clock() - start
    leaves = [tensor.requires_grad_() for tensor in (value, offsets, logits)]
    start = clock()
    torch.autograd.grad(run(value, place, offsets, logits, shapes), leaves, gradient)
    return forward, clock() - start


def row(name: str, repeats: int, clock: Callable[[], float]) -> str:
    """A line of the table: milliseconds of the native kernel, the ratios of the medians, and core-ns a point."""
    sides: tuple[Callable[..., Tensor], ...] = (by_grid, native.msda)
    times = [[timed(run, name, clock) for run in sides] for _ in range(repeats + 1)][1:]
    other, ours = ([median(pair[side][which] for pair in times) for which in (0, 1)] for side in (0, 1))
    _, batch, queries = SHAPES[name]
    each = [1e9 * seconds / (batch * queries * HEADS * 3 * POINTS) for seconds in ours]
    return (
        f"| {name} | {1e3 * ours[0]:.2f} ms, {each[0]:.1f} ns | {other[0] / ours[0]:.1f}x "
        f"| {1e3 * ours[1]:.2f} ms, {each[1]:.1f} ns | {other[1] / ours[1]:.1f}x |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=list(SHAPES), metavar="SHAPE", help=", ".join(SHAPES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--default-malloc", action="store_true")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    given = parser.parse_args()
    malloc = "system default" if given.default_malloc else environment.raise_malloc_thresholds()
    torch.set_num_threads(given.threads)
    print(f"{environment.processor()}; {given.threads} threads; {given.clock} time; malloc: {malloc}")
    print(f"native: {ops.resolve('native').reason}\n")
    print("| shape | forward, and a point | over grid_sample | forward + backward | over grid_sample |")
    print("|---|---|---|---|---|")
    for name in given.shapes:
        print(row(name, given.repeats, CLOCKS[given.clock]), flush=True)


if __name__ == "__main__":
    main()
