"""Finding and building the library: many at once, a killed builder, no compiler, other instruction sets, a wheel."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from locations import ROOT
from msda_cases import CASES, compile_to, complaints, strange, using

from unept.ops import cpu_build

ASK = """
import torch
from unept import ops
ops.resolve()
found = ops.resolve()
inputs = torch.ones(1, 4, 1, 1), torch.rand(3, 2), torch.zeros(1, 3, 1, 1, 1, 2), torch.zeros(1, 3, 1, 1, 1)
assert ops.msda(*inputs, ((2, 2),)).shape == (1, 3, 1)
print(found.name, "|", found.reason)
"""
# The module alone: the package would bring torch, which takes its time in each of many processes.
BUILD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("build", sys.argv[1])
build = sys.modules["build"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)
print(build.load().origin.split()[0])
"""
needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")


def ask(cache: Path, code: str = ASK, **variables: str) -> subprocess.Popen[str]:
    environment = os.environ | {"UNEPT_CACHE": str(cache), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | variables
    environment.pop("UNEPT_BACKEND", None)
    return subprocess.Popen(
        [sys.executable, "-c", code, cpu_build.__file__],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def logging_compiler(folder: Path, then: str = 'exec g++ "$@"') -> tuple[Path, Path]:
    """A compiler that writes a line for each compilation before it does `then`, and its log."""
    script, log = folder / "compiler", folder / "log"
    log.touch()
    script.write_text(f'#!/bin/sh\ncase "$*" in *-shared*) echo one >> {log} ;; esac\n{then}\n', encoding="ascii")
    script.chmod(0o755)
    return script, log


@needs_gcc
def test_eight_at_once_build_once(tmp_path):
    compiler, log = logging_compiler(tmp_path)
    asking = [ask(tmp_path / "cache", BUILD, CXX=str(compiler)) for _ in range(8)]
    answers = [process.communicate(timeout=300) for process in asking]
    assert [out for out, _ in answers] == ["built\n"] * 8, answers
    assert log.read_text() == "one\n"
    assert [path.suffix for path in sorted((tmp_path / "cache").iterdir())] == [".lock", ".so"]


@needs_gcc
def test_a_killed_builder_leaves_nothing_in_the_way(tmp_path):
    slow = 'case "$*" in *-shared*) echo half > "$(echo "$*" | sed "s/.*-o \\([^ ]*\\).*/\\1/")"; sleep 600 ;; esac'
    compiler, log = logging_compiler(tmp_path, f'{slow}\nexec g++ "$@"')
    killed = ask(tmp_path / "cache", BUILD, CXX=str(compiler))
    deadline = time.monotonic() + 60
    while not log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    children = [
        int(pid)
        for pid in subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(killed.pid)], capture_output=True, text=True, check=False
        ).stdout.split()
    ]
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert list((tmp_path / "cache").glob(".*.tmp"))
    assert not list((tmp_path / "cache").glob("*.so"))
    logging_compiler(tmp_path)  # the same command, now in order
    out, err = ask(tmp_path / "cache", BUILD, CXX=str(compiler)).communicate(timeout=300)
    for child in children:  # the sleeping compiler that was left
        os.kill(child, signal.SIGKILL)
    assert out == "built\n", err
    assert not list((tmp_path / "cache").glob(".*.tmp"))


@needs_gcc
def test_a_damaged_library_is_built_again(tmp_path, monkeypatch):
    def damage(_compiler, path, *_, **__):
        path.write_bytes(b"half")

    monkeypatch.setenv("UNEPT_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "g++")
    monkeypatch.setattr(cpu_build, "FLAGS", (*cpu_build.FLAGS, "-O0"))
    with monkeypatch.context() as patch:
        patch.setattr(cpu_build, "compile_library", damage)
        with pytest.raises(cpu_build.Unavailable, match="was built and does not load"):
            cpu_build._load()
    (library,) = tmp_path.glob("*.so")
    assert library.read_bytes() == b"half"
    assert cpu_build._load().origin.startswith("built by g++")
    assert library.stat().st_size > 1000


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"CXX": "/nonexistent"}, "No such file or directory: '/nonexistent'"),
        ({"CXX": "", "PATH": "/nonexistent"}, "no compiler, none of g++, clang++, c++ is there"),
        ({"CXX": "false"}, "false: ended with 1"),
    ],
)
def test_without_a_compiler_the_reference_runs_and_one_line_says_so(tmp_path, variables, reason):
    out, err = ask(tmp_path / "cache", **variables).communicate(timeout=120)
    assert out.startswith("reference | plain PyTorch; no native kernel: ")
    assert reason in out
    (line,) = err.splitlines()
    assert line.startswith("no native attention kernel, so plain PyTorch runs: ")
    assert reason in line


def test_forcing_what_cannot_run_is_refused(tmp_path):
    code = """
from unept import ops
try:
    ops.resolve("native")
except ValueError as error:
    print(error)
"""
    out, _ = ask(tmp_path, code, CXX="/nonexistent").communicate(timeout=120)
    assert out.startswith("the native kernel cannot run: /nonexistent: ")
    assert out.count("\n") == 1


def test_a_cache_that_cannot_be_written_is_a_reason_too(tmp_path):
    (tmp_path / "file").write_text("in the way", encoding="ascii")
    out, err = ask(tmp_path / "file").communicate(timeout=120)
    assert out.startswith("reference | "), err


def test_options_are_given_up_one_by_one(tmp_path):
    """A compiler without OpenMP, and one that does not know the machine."""
    refuse = 'case "$*" in *{}*) echo "error: what is {}" >&2; exit 1 ;; esac\nexec g++ "$@"'
    for word, left in (("-fopenmp", ["-march=native"]), ("-march=native", ["-fopenmp"])):
        compiler, _ = logging_compiler(tmp_path, refuse.format(word, word))
        _, options = cpu_build._facts([str(compiler)])
        commands = tmp_path / "commands"
        commands.write_text("", encoding="ascii")
        keep = f'echo "$*" >> {commands}; for word; do last="$out"; out="$word"; done; '
        compiler.write_text(f'#!/bin/sh\ncase "$*" in *{word}*) exit 1 ;; esac\n{keep}exit 0\n', encoding="ascii")
        cpu_build.compile_library([str(compiler)], tmp_path / "none.so", "digest", options)
        (kept,) = commands.read_text().splitlines()
        assert [option for option in ("-march=native", "-fopenmp") if option in kept] == left


def test_the_name_of_a_library_tells_its_sources(tmp_path):
    for source in cpu_build.sources().glob("*.*"):
        shutil.copy(source, tmp_path)
    assert cpu_build.source_hash(tmp_path) == cpu_build.source_hash()
    (tmp_path / "point.h").write_text("edited", encoding="ascii")
    assert cpu_build.source_hash(tmp_path) != cpu_build.source_hash()
    with pytest.raises(cpu_build.Unavailable, match="sources are not in"):
        cpu_build.source_hash(tmp_path / "nowhere")


@needs_gcc
@pytest.mark.parametrize(
    ("march", "flag", "width"), [("x86-64", "sse2", 16), ("x86-64-v3", "avx2", 32), ("x86-64-v4", "avx512f", 64)]
)
def test_instruction_sets(tmp_path, march, flag, width):
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(encoding="utf-8").split() if cpu.exists() else []
    if "sse2" not in flags:
        pytest.skip("not an x86-64 processor")
    common = ("-O2", "-fPIC", "-shared", "-fopenmp", "-Wno-psabi")
    path = compile_to(tmp_path / "kernel.so", f"-march={march}", *common)
    if flag not in flags:  # compiled; what runs is the same in the processor's own instructions
        path = compile_to(tmp_path / "lowered.so", "-march=native", f"-DUNEPT_BYTES={width}", *common)
    with using(path) as library:
        assert library.unept_vector_bytes() == width
        assert [wrong for case in CASES for wrong in complaints(case)] == []


CLANG = next(filter(shutil.which, ("clang++", *(f"clang++-{version}" for version in range(21, 13, -1)))), None)


@pytest.mark.skipif(CLANG is None, reason="no clang++")
def test_clang(tmp_path):
    """Without OpenMP, whose library clang does not bring along."""
    flags = ("-O2", "-march=native", "-fPIC", "-shared", "-DUNEPT_ONLY_FLOAT32")
    with using(compile_to(tmp_path / "kernel.so", *flags, compiler=CLANG)) as library:
        assert not library.unept_threaded()
        assert [wrong for case in CASES for wrong in complaints(case)] == []
        assert strange() == []


def test_prefetches_are_compiled(tmp_path):
    """GCC leaves a function out that does nothing but prefetch, unless it is always inline."""
    if shutil.which("g++") is None or os.uname().machine != "x86_64":
        pytest.skip("no g++ for x86-64")
    flags = ("-O3", "-march=x86-64", "-S", "-Wno-psabi", "-DUNEPT_ONLY_FLOAT32")
    text = compile_to(tmp_path / "kernel.s", *flags).read_text(encoding="utf-8")
    assert text.count("prefetch") >= 16  # logits and offsets, also with gradients; values, their gradients, corners


@needs_gcc
@pytest.mark.parametrize("more", [(), ("-march=native",), ("-march=native", "-fopenmp")], ids="-".join)
def test_address_and_undefined_behaviour_sanitizers(tmp_path, more):
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-Wno-psabi", *more)
    try:
        program = compile_to(tmp_path / "run", *flags, main=Path(__file__).with_name("sanitized.cpp"))
    except AssertionError as error:
        if "cannot find" in str(error):
            pytest.skip("the sanitizers' libraries are not installed")
        raise
    done = subprocess.run([program], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (0, "clean\n"), done.stderr[:3000]
    broken = subprocess.run([program, "short"], capture_output=True, text=True, timeout=300, check=False)
    assert "heap-buffer-overflow" in broken.stderr  # it does look


@pytest.mark.slow
@needs_gcc
def test_an_installed_wheel_builds_its_kernel(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", ".*_cache"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    wheel = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)]
    subprocess.run(wheel, check=True, timeout=600)
    (made,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, timeout=300)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*pip, f"--python={python}", "install", "--no-deps", str(made)], check=True, timeout=300)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    ours = subprocess.run([sys.executable, "-c", where], capture_output=True, text=True, check=True).stdout.strip()
    (Path(site) / "shared.pth").write_text(f"{ours}\n", encoding="utf-8")  # torch and the rest, after what is installed
    code = f"import unept; assert unept.__file__.startswith({site!r}), unept.__file__\n{ASK}"
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONPATH"}
    environment["UNEPT_CACHE"] = str(tmp_path / "cache")
    done = subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, env=environment
    )
    assert done.stdout.startswith("native | built by"), done.stderr


@pytest.mark.skipif(shutil.which("aarch64-linux-gnu-g++") is None, reason="no compiler for aarch64")
def test_it_compiles_for_aarch64(tmp_path: Path) -> None:
    """Without a warning; there is no such processor to run it on here."""
    source = ROOT / "cuda" / cpu_build.MAIN
    words = ["aarch64-linux-gnu-g++", *cpu_build.FLAGS, "-fopenmp", "-Wall", "-Wextra", "-Werror", str(source)]
    done = subprocess.run([*words, "-o", str(tmp_path / "kernel.so")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
