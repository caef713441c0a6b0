"""The checker must refuse kernels that are wrong in the ways in which kernels are wrong."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from msda_cases import CASES, Case, compile_to, complaints, strange, using

from unept.ops import build

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")

# What is wrong, the file, the text, and what stands there instead.
MUTANTS = {
    "x and y swapped": (
        "call.h",
        "pixel(right, width, offsets[2 * point])",
        "pixel(right, width, offsets[2 * point + 1])",
    ),
    "a corner's mask missing": ("point.h", "(along.before & across.after) > zero ?", "along.before > zero ?"),
    "a map's last column missing": ("point.h", "(low < zero + last)", "(low < zero + last - 1)"),
    "a level's start wrong": ("forward.h", "map_of(call.layout, map, map.row)", "map_of(call.layout, map, 0)"),
    "the last vector missing": ("block.h", "if (vectors - from >= 1)", "if (vectors - from > 1)"),
    "the last channel missing": ("forward.h", "block.sum, size.channels *", "block.sum, (size.channels - 1) *"),
    "a row overwritten": ("block.h", "values[piece] += times", "values[piece] = times"),
    "the softmax's derivative cut": ("block.h", "mixed - weight * delta", "mixed"),
    "the slopes swapped": (
        "block.h",
        "slope_x(v0, v1, v2, v3, load(block.down + i))",
        "slope_x(v0, v2, v1, v3, load(block.down + i))",
    ),
    "the last point of a group of another query": ("backward.h", "points % group<Real>)", "false)"),
    "what is not finite put inside": ("point.h", "place : none - 2", "place : none"),
    "the last query of a block missing": (
        "forward.h",
        "query < queries.count(); ++query) {\n    Real sum",
        "query < queries.count() - 1; ++query) {\n    Real sum",
    ),
}


def compiled(folder: Path, name: str) -> Path:
    for source in build.sources().glob("*.*"):
        shutil.copy(source, folder)
    if name in MUTANTS:
        file, text, instead = MUTANTS[name]
        content = (folder / file).read_text(encoding="utf-8")
        assert content.count(text) == 1, f"{text!r} stands in {file} {content.count(text)} times"
        (folder / file).write_text(content.replace(text, instead), encoding="utf-8")
    flags = ("-O1", "-march=native", "-fPIC", "-shared", "-Wno-error", "-Wno-psabi")
    return compile_to(folder / "mutant.so", *flags, folder=folder)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The library of every mutant and of the true kernel, compiled two at a time."""
    names = [*MUTANTS, "true"]
    with ThreadPoolExecutor(2) as pool:
        paths = pool.map(compiled, [tmp_path_factory.mktemp("mutant") for _ in names], names)
        return dict(zip(names, paths, strict=True))


def every_complaint() -> list[str]:
    cases = (*CASES, Case(((6, 5), (2, 3)), queries=9, channels=5, points=1))
    return [*(wrong for case in cases for wrong in complaints(case, torch.float32)), *strange()]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_refused(kernels, name):
    with using(kernels[name]):
        assert every_complaint() != []


def test_the_same_build_of_the_true_kernel_is_not(kernels):
    with using(kernels["true"]):
        assert every_complaint() == []
