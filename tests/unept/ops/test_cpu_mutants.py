"""The checker must refuse kernels that are wrong in the ways in which kernels are wrong."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from msda_cases import CASES, OperatorCase, compile_to, complaints, strange, using

from unept.ops import cpu_build

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")

# What is wrong, the file, the text, and what stands there instead.
MUTANTS = {
    "x and y swapped": (
        "call.h",
        "load_pairs(offsets + 2 * i, across, along)",
        "load_pairs(offsets + 2 * i, along, across)",
    ),
    "x and y of the last points swapped": (
        "call.h",
        "pixel(right, level_w[i], offsets[2 * i])",
        "pixel(right, level_w[i], offsets[2 * i + 1])",
    ),
    "what lies left of a map put on its edge": (
        "point.h",
        "const Real outside = Real{} - 2",
        "const Real outside = Real{} - 1",
    ),
    "what lies right of a map put on its edge": (
        "point.h",
        "kept < side ? kept : side",
        "kept < side ? kept : side - 1",
    ),
    "what is not finite put inside": (
        "point.h",
        "position > outside ? position : outside",
        "position > outside ? position : Real{}",
    ),
    "one pixel too few between the lines": ("block.h", "(level.step() * width)", "((level.step() - 1) * width)"),
    "a level's start wrong": ("forward.h", "table + level.row * layout.width()", "table"),
    "a level's start wrong in the values' gradient": (
        "backward.h",
        "(image * size.tokens + level.token) * size.heads + head",
        "image * size.tokens * size.heads + head",
    ),
    "the step of another level": ("block.h", "block.step[level * points]", "block.step[0]"),
    "the last vector missing": ("block.h", "if (vectors - from >= 1)", "if (vectors - from > 1)"),
    "the last channel missing": ("forward.h", "block.sum, size.channels *", "block.sum, (size.channels - 1) *"),
    "the last channels read wrongly": ("layout.h", "read(to[channel], from[channel])", "read(to[channel], from[0])"),
    "a row overwritten": ("block.h", "values[piece] += times", "values[piece] = times"),
    "the softmax's derivative cut": ("block.h", "weighted - weight * delta", "weighted"),
    "the slopes swapped": (
        "block.h",
        "grad_x(v[0], v[1], v[2], v[3], load(block.down + i))",
        "grad_x(v[0], v[2], v[1], v[3], load(block.down + i))",
    ),
    "the dots of two corners exchanged": (
        "block.h",
        "exchange<Real, 2 * step>(corners[0], corners[2])",
        "exchange<Real, step>(corners[0], corners[2])",
    ),
    "the last point of a group of another query": ("block.h", "owner[point] * vectors", "owner[0] * vectors"),
    "the last query of a block missing": (
        "forward.h",
        "query < queries.count(); ++query) {\n    prefetch_query",
        "query < queries.count() - 1; ++query) {\n    prefetch_query",
    ),
    "the values of another head": (
        "forward.h",
        "std::exchange(packed[thread], which) != which",
        "packed[thread]++ < 0",
    ),
}


def compiled(folder: Path, name: str) -> Path:
    for source in cpu_build.sources().glob("*.*"):
        shutil.copy(source, folder)
    if name in MUTANTS:
        file, text, instead = MUTANTS[name]
        content = (folder / file).read_text(encoding="utf-8")
        assert content.count(text) == 1, f"{text!r} stands in {file} {content.count(text)} times"
        (folder / file).write_text(content.replace(text, instead), encoding="utf-8")
    flags = ("-O1", "-march=native", "-fPIC", "-shared", "-Wno-error", "-Wno-psabi", "-DUNEPT_ONLY_FLOAT32")
    return compile_to(folder / "mutant.so", *flags, folder=folder)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The library of every mutant and of the true kernel, compiled two at a time."""
    names = [*MUTANTS, "true"]
    with ThreadPoolExecutor(2) as pool:
        paths = pool.map(compiled, [tmp_path_factory.mktemp("mutant") for _ in names], names)
        return dict(zip(names, paths, strict=True))


def every_complaint() -> list[str]:
    cases = (*CASES, OperatorCase(((6, 5), (2, 3)), queries=9, channels=5, points=1))
    return [*(wrong for case in cases for wrong in complaints(case, torch.float32)), *strange()]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_refused(kernels, name):
    with using(kernels[name]):
        assert every_complaint() != []


def test_the_same_build_of_the_true_kernel_is_not(kernels):
    with using(kernels["true"]):
        assert every_complaint() == []
