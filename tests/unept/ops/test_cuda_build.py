"""Building the CUDA library, with a script in nvcc's place."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unept.ops import cuda_build
from unept.ops.cuda_build import Unavailable
from unept.ops.cuda_library import Kernel
from unept.ops.validation import Sizes
from unept.utils.messages import first_error_line

NVCC = """#!/bin/sh
echo "$*" >> {log}
case "$*" in
  *--list-gpu-arch*) printf 'compute_75\\ncompute_80\\ncompute_90\\n' ;;
  *--version*) echo "nvcc release {version}" ;;
  *) {work}
     while [ $# -gt 1 ]; do [ "$1" = -o ] && echo "{version}" > "$2"; shift; done ;;
esac
"""


@pytest.fixture
def nvcc(tmp_path, monkeypatch):
    """Puts a script in nvcc's place, and says what it was called with."""
    monkeypatch.setenv("UNEPT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    monkeypatch.delenv("CUDA_PATH", raising=False)

    def install(version="13.0", work="true") -> Path:
        path, log = tmp_path / "cuda" / "bin" / "nvcc", tmp_path / "calls"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(NVCC.format(log=log, version=version, work=work), encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        return log

    return install


def compilations(log: Path) -> list[str]:
    return [call for call in log.read_text(encoding="utf-8").splitlines() if " -o " in call]


def test_built_once_for_a_card(nvcc):
    log = nvcc()
    path = cuda_build.library_for((9, 0))
    assert path.read_text(encoding="utf-8") == "13.0\n"
    assert cuda_build.library_for((9, 0)) == path
    (call,) = compilations(log)
    assert "-gencode arch=compute_90,code=sm_90" in call
    assert f'-DUNEPT_SOURCES="{cuda_build.source_hash()}"' in call
    assert call.endswith("cuda/msda_cuda.cu")
    assert [entry.name for entry in path.parent.iterdir() if entry.suffix == ".tmp"] == []


@pytest.mark.parametrize(
    ("capability", "flags"),
    [
        ((8, 0), "arch=compute_80,code=sm_80"),
        ((8, 6), "arch=compute_80,code=compute_80"),
        ((12, 0), "arch=compute_90,code=compute_90"),
    ],
)
def test_code_for_the_card_or_the_newest_ptx_that_it_takes(nvcc, capability, flags):
    nvcc()
    assert cuda_build.target(cuda_build.find_nvcc(), capability) == flags


def test_a_card_that_is_too_old(nvcc):
    nvcc()
    with pytest.raises(Unavailable, match=r"builds for 7\.5 and newer, and this card is 7\.0"):
        cuda_build.library_for((7, 0))


def test_another_key_for_another_card_compiler_or_source(nvcc, tmp_path, monkeypatch):
    nvcc()
    paths = {cuda_build.library_for((9, 0)), cuda_build.library_for((8, 0))}
    nvcc(version="13.1")
    paths.add(cuda_build.library_for((9, 0)))
    copy = tmp_path / "sources"
    shutil.copytree(cuda_build.sources(), copy)
    (copy / "point.h").write_text("// another", encoding="utf-8")
    monkeypatch.setattr(cuda_build, "sources", lambda: copy)
    paths.add(cuda_build.library_for((9, 0)))
    assert len(paths) == 4


def test_the_hash_is_of_what_the_kernels_include(tmp_path):
    copy = tmp_path / "sources"
    shutil.copytree(cuda_build.sources(), copy)
    before = cuda_build.source_hash(copy)
    assert before == cuda_build.source_hash()
    (copy / "msda_cpu.cpp").write_text("", encoding="utf-8")
    assert cuda_build.source_hash(copy) == before
    for name in ("point.h", "interface.h", "gpu_forward.cuh", "msda_cuda.cu"):
        text = (copy / name).read_text(encoding="utf-8")
        (copy / name).write_text(text + "\n", encoding="utf-8")
        assert cuda_build.source_hash(copy) != before
        (copy / name).write_text(text, encoding="utf-8")
    (copy / "point.h").unlink()
    with pytest.raises(Unavailable, match=r"no point\.h"):
        cuda_build.source_hash(copy)


def test_every_included_file_is_hashed():
    folder = cuda_build.sources()
    hashed = {path.name for path in folder.iterdir() if path.suffix in (".cu", ".cuh")} | set(cuda_build.SHARED_HEADERS)
    included = {
        line.split('"')[1]
        for name in hashed
        for line in (folder / name).read_text(encoding="utf-8").splitlines()
        if line.startswith('#include "')
    }
    assert included <= hashed


def test_a_compiler_that_fails_leaves_nothing(nvcc, tmp_path):
    nvcc(work="echo 'In file x' >&2; echo 'x.cu(3): error: no such thing' >&2; exit 2")
    with pytest.raises(Unavailable, match=r"nvcc: x\.cu\(3\): error: no such thing$"):
        cuda_build.library_for((9, 0))
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] in ([".lock"], [])
    nvcc()
    assert cuda_build.library_for((9, 0)).is_file()


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(cuda_build, "USUAL_PLACE", str(tmp_path))
    with pytest.raises(Unavailable, match="no nvcc"):
        cuda_build.find_nvcc()
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(Unavailable, match=r"CUDA_HOME is .*nowhere, and there is no bin/nvcc"):
        cuda_build.find_nvcc()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written(nvcc, tmp_path):
    nvcc()
    (tmp_path / "cache").mkdir(mode=0o500)
    with pytest.raises(Unavailable, match="cannot build the CUDA kernel in"):
        cuda_build.library_for((9, 0))


def test_a_file_where_the_cache_should_be(nvcc, tmp_path):
    nvcc()
    (tmp_path / "cache").write_text("", encoding="utf-8")
    with pytest.raises(Unavailable, match="cannot build the CUDA kernel in"):
        cuda_build.library_for((9, 0))


def test_one_of_several_processes_builds(nvcc, tmp_path):
    log = nvcc(work="sleep 1")
    (tmp_path / "cache").mkdir()
    stale = tmp_path / "cache" / ".msda-cuda-x.tmp"  # of another library: not this one's to remove
    stale.write_text("", encoding="utf-8")
    code = "from unept.ops import cuda_build; print(cuda_build.library_for((9, 0)).read_text())"
    environment = {**os.environ, "PYTHONPATH": str(Path(cuda_build.__file__).parents[2])}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["13.0", "13.0"]
    assert len(compilations(log)) == 1
    assert stale.exists()


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), ("  a\nb", "a"), ("a\nfatal ERROR: b\nc", "fatal ERROR: b"), ("x" * 400, "x" * 300)],
)
def test_the_most_telling_line(text, line):
    assert first_error_line(text) == line


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("nvcc"), reason="no nvcc, so the CUDA library is not built")
def test_the_library_that_nvcc_itself_builds_is_whole_and_says_what_a_machine_without_cards_lacks(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("UNEPT_CACHE", str(tmp_path))
    capability = torch.cuda.get_device_capability() if torch.cuda.is_available() else (8, 0)
    kernel = Kernel.load(cuda_build.library_for(capability), torch.device("cpu"))  # refused if of other sources
    given = Sizes(batch=2, tokens=16, heads=2, channels=8, levels=2, points=4, queries=3)
    sides, room = (ctypes.c_int64 * 4)(3, 4, 2, 2), torch.zeros(4096)
    start = (ctypes.byref(given), sides, 0)
    code = kernel.library.unept_msda_cuda_forward(*start, 99, None, *[room.data_ptr()] * 6)  # no such card
    assert re.search("no CUDA-capable device|driver|invalid device", kernel.library.unept_cuda_message(code).decode())
    assert kernel.library.unept_msda_cuda_backward(*start, 99, None, *[room.data_ptr()] * 11) == code
    assert kernel.library.unept_msda_cuda_forward(start[0], sides, 9, 0, None, *[room.data_ptr()] * 6) != code
