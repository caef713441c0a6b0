"""What nvcc makes of the CUDA kernels: every architecture compiles, nothing spills, registers stay within a limit."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import NamedTuple

import emulated
import pytest

from unept.ops import cuda_build

ARCHITECTURES = (75, 80, 86, 87, 88, 89, 90, 100, 103, 110, 120, 121)
MOST_REGISTERS = {"float": 96, "double": 128}  # of a thread: what cuda/gpu_call.cuh leaves it

needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc, so the CUDA kernels are not compiled")


class Resources(NamedTuple):
    """Of one kernel on one architecture."""

    kernel: str
    computed_in: str
    registers: int
    spilled: int
    stack: int


def parse(log: str) -> Iterator[Resources]:
    """From what `nvcc -Xptxas -v` says."""
    pattern = re.compile(
        r"Compiling entry function '(\S+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers",
        re.DOTALL,
    )
    for name, stack, stores, loads, registers in pattern.findall(log):
        kernel = next((kind for kind in ("forward", "backward", "convert") if f"{len(kind)}{kind}" in name), name)
        real = "double" if re.search(r"wardId", name) else "float"
        yield Resources(kernel, real, int(registers), int(stores) + int(loads), int(stack))


def compiled(architecture: int, folder, *flags: str) -> list[Resources]:
    command = ["nvcc", "-std=c++17", "-O3", "-Xptxas", "-v", "-cubin", f"-arch=sm_{architecture}", *flags]
    command += ["-Werror", "all-warnings", "-o", str(folder / "out.cubin"), str(cuda_build.sources() / cuda_build.MAIN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(parse(done.stderr))


def too_much(found: list[Resources]) -> list[Resources]:
    return [one for one in found if one.spilled or one.stack or one.registers > MOST_REGISTERS[one.computed_in]]


@needs_nvcc
def test_one_architecture(tmp_path):
    found = compiled(80, tmp_path, "-DUNEPT_ONLY_FLOAT32")
    assert {one.kernel for one in found} == {"forward", "backward"}
    assert len(found) == 2 * 6
    assert too_much(found) == []


@pytest.mark.slow
@needs_nvcc
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_and_type(tmp_path, architecture):
    found = compiled(architecture, tmp_path)
    assert len(found) == 4 * 2 * 6 + 2
    assert too_much(found) == []
    most = {real: max(one.registers for one in found if one.computed_in == real) for real in MOST_REGISTERS}
    print(f"sm_{architecture}: {most}")


@pytest.mark.slow
@needs_nvcc
def test_ptx_for_cards_to_come(tmp_path):
    source, target = cuda_build.sources() / cuda_build.MAIN, tmp_path / "msda.ptx"
    subprocess.run(["nvcc", "-std=c++17", "-ptx", "-arch=compute_75", "-o", str(target), str(source)], check=True)
    text = target.read_text(encoding="utf-8")
    assert ".target sm_75" in text
    assert text.count(".entry") == 4 * 2 * 6 + 2


@needs_nvcc
@pytest.mark.parametrize(("architecture", "at_once"), [(80, False), (90, True)])
def test_four_channels_move_at_once(tmp_path, architecture, at_once):
    """Loads and stores everywhere, additions from sm_90 on."""
    source, target = cuda_build.sources() / cuda_build.MAIN, tmp_path / "msda.ptx"
    command = ["nvcc", "-std=c++17", "-O3", "-ptx", f"-arch=sm_{architecture}", "-DUNEPT_ONLY_FLOAT32"]
    subprocess.run([*command, "-o", str(target), str(source)], check=True)
    text = target.read_text(encoding="utf-8")
    assert "ld.global.v4.f32" in text
    assert "st.global.v4.f32" in text
    assert ("add.v4.f32" in text) is at_once


@needs_nvcc
def test_a_spill_is_seen(tmp_path, monkeypatch):
    """With 32 registers a thread not everything fits: the limits above can be missed."""
    copy = emulated.mutated({"gpu_call.cuh": ("sizeof(Real) == 4 ? 5 :", "sizeof(Real) == 4 ? 16 :")}, tmp_path)
    monkeypatch.setattr(cuda_build, "sources", lambda: copy)
    found = compiled(80, tmp_path, "-DUNEPT_ONLY_FLOAT32")
    assert any(one.spilled for one in too_much(found))


def test_the_log_is_read():
    log = """ptxas info    : Compiling entry function '_ZN5unept3gpu8backwardIddLi4ELi8EEEvNS0_4CallI' for 'sm_80'
ptxas info    : Function properties for _ZN5unept3gpu8backwardIddLi4ELi8EEEvNS0_4CallI
    8 bytes stack frame, 12 bytes spill stores, 4 bytes spill loads
ptxas info    : Used 130 registers, used 0 barriers, 1256 bytes cmem[0]"""
    assert list(parse(log)) == [Resources("backward", "double", 130, 16, 8)]
    assert too_much(list(parse(log)))
    assert not too_much(
        list(
            parse(
                log.replace("8 bytes", "0 bytes")
                .replace("12 bytes", "0 bytes")
                .replace("4 bytes spill", "0 bytes spill")
                .replace("130", "128")
            )
        )
    )


def test_the_limit_is_that_of_the_sources():
    """`kBlocks` blocks of `kThreads` threads share 65536 registers, which a thread gets in eights."""
    text = (emulated.ROOT / "cuda" / "gpu_call.cuh").read_text(encoding="utf-8")
    threads = int(re.findall(r"kThreads = (\d+);", text)[0])
    for_float, for_double = map(int, re.findall(r"sizeof\(Real\) == 4 \? (\d+) : (\d+);", text)[0])
    limits = {"float": 65536 // (threads * for_float) // 8 * 8, "double": 65536 // (threads * for_double) // 8 * 8}
    assert limits == MOST_REGISTERS
