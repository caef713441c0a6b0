"""Environment of a row: versions, processor, memory, system, accelerators, commit, threads. Imports no torch."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import os
import platform
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bench.results.rows import PROGRAM, content_key
from bench.units import GIB
from unept.utils import container
from unept.utils.container import usable_cores as usable_cores

PACKAGES = (PROGRAM, "torch", "torchvision", "timm", "mmcv-lite", "mmcv", "mmengine", "numpy", "scipy")
USABLE_MEMORY_SHARE = 0.8  # of the available memory, that a measurement may take
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 4 * 1024 * 1024 * ctypes.sizeof(ctypes.c_long)  # glibc refuses more
_LARGEST_INT = 2**31 - 1
_HUGE_PAGES = "glibc.malloc.hugetlb=1"  # glibc 2.35 and later ask the kernel for huge pages; others ignore it


def peak_resident_gib() -> float | None:
    """Return the highest resident set of this process so far in GiB; None where the system does not say.

    It reads Linux's VmHWM rather than ru_maxrss, which starts at the size of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / GIB
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / GIB
    return None


def check_timing(*, threads: int, repeats: int) -> None:
    """Check the options of a timing command.

    Args:
        threads: Number of threads, at most `usable_cores()`.
        repeats: Number of repetitions.

    Raises:
        ValueError: In one line, for a number below 1 or more threads than processors.
    """
    for name, value in (("threads", threads), ("repeats", repeats)):
        if value < 1:
            raise ValueError(f"--{name} {value}: expected 1 or more")
    if threads > usable_cores():
        raise ValueError(f"--threads {threads}: this process may use {usable_cores()} processors")


@contextlib.contextmanager
def set_variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables within the context, for this process and those that it starts; then restore them.

    Args:
        wanted: Values by name.
    """
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def torchrun_size() -> int:
    """Return the number of processes that torchrun has started, this one among them; 0 where it has not.

    It has where all of its variables are there. ValueError where one of them is no number, or the rank is none of them.
    """
    numbers = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    if any(name not in os.environ for name in (*numbers, "MASTER_ADDR")):
        return 0
    for name in numbers:
        if not os.environ[name].isdecimal():
            raise ValueError(f"{name}={os.environ[name]} in the environment: expected a whole number, as torchrun sets")
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if rank >= size:
        raise ValueError(
            f"RANK={rank} and WORLD_SIZE={size} in the environment: expected a rank below the number of processes"
        )
    return size


def processes_on_this_machine() -> int:
    """Return how many of torchrun's processes are on this machine; 1 where it has started none, or does not say."""
    text = os.environ.get("LOCAL_WORLD_SIZE", "") if torchrun_size() else ""
    return max(1, int(text)) if text.isdecimal() else 1


def is_main_process() -> bool:
    """Return True in the process that writes files and prints: the only one, or under torchrun the one of rank 0."""
    return not torchrun_size() or os.environ["RANK"] == "0"


def thread_variables(threads: int) -> dict[str, str]:
    """Return the environment variables that limit every numeric library of a process to `threads` threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    return {name: str(threads) for name in names}


def default_thread_variables() -> dict[str, str]:
    """Return `thread_variables` for `usable_cores()` where only a quota tells the number; {} elsewhere.

    Numeric libraries read the affinity mask and not a container's quota. A user's OMP_NUM_THREADS stays.
    """
    if "OMP_NUM_THREADS" in os.environ or usable_cores() >= container.allowed_cores():
        return {}
    return thread_variables(usable_cores())


def huge_page_variables() -> dict[str, str]:
    """Return the environment variables that give a process's heap huge pages where the system lends them on request.

    A user's own GLIBC_TUNABLES stay, and decide where they say otherwise.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc.hugetlb" in tunables:
        return {}
    return {"GLIBC_TUNABLES": ":".join(filter(None, [tunables, _HUGE_PAGES]))}


def home_variables() -> dict[str, str]:
    """Return variables that put what libraries cache into a folder of this user's where no home folder takes it.

    In containers a process may run under a number without an entry, without HOME, or with one that it cannot write.
    Libraries then raise, warn, or do without. {} where there is a home; a user's own variables stay.
    """
    if not hasattr(os, "getuid"):
        return {}
    try:
        home = Path.home()
    except RuntimeError:
        home = None
    folders = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config"}
    missing = {
        name: folder
        for name, folder in folders.items()
        if not os.environ.get(name) and (home is None or not _is_usable(home / folder))
    }
    own = _own_temporary_folder() if missing else None
    return {} if own is None else {name: str(own / folder) for name, folder in missing.items()}


def _is_usable(folder: Path) -> bool:
    """Return True if a folder is there, be it to read what was cached before, or can be made."""
    if os.path.isdir(folder) and os.access(folder, os.R_OK | os.X_OK):
        return True
    existing = next(path for path in (folder, *folder.parents) if os.path.exists(path))
    return os.path.isdir(existing) and os.access(existing, os.W_OK | os.X_OK)


def _own_temporary_folder() -> Path | None:
    """Return a folder that no other user can write, the same one for every process; None where nothing is writable."""
    try:
        folder = Path(tempfile.gettempdir(), f"{PROGRAM}-{os.getuid()}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077:
            return folder
        return Path(tempfile.mkdtemp(prefix=f"{PROGRAM}-"))  # another user was there before
    except OSError:
        return None


def raise_malloc_thresholds() -> str:
    """Let glibc keep freed memory in this process.

    Freed blocks go back to the kernel by default, and fetching them again as zeroed pages can take half the time of a
    training step on a CPU.

    Returns:
        A description of what was set; "system default" where nothing could be set.
    """
    if platform.libc_ver()[0] != "glibc":
        return "system default"
    mallopt = ctypes.CDLL(None).mallopt
    done = []
    for name, parameter, value in (
        ("M_MMAP_THRESHOLD", _M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD),
        ("M_TRIM_THRESHOLD", _M_TRIM_THRESHOLD, _LARGEST_INT),
    ):
        if mallopt(parameter, value) == 1:
            done.append(f"{name}={value}")
    huge = [_HUGE_PAGES] if _HUGE_PAGES in os.environ.get("GLIBC_TUNABLES", "").split(":") else []
    return f"glibc mallopt {' '.join([*done, *huge])}" if done else "system default"


def collect_environment(*, threads: int, malloc: str = "system default") -> dict[str, Any]:
    """Return the `environment` of a row: versions, hardware, commit, threads and allocator setting.

    Args:
        threads: Number of threads of the run.
        malloc: Return value of `raise_malloc_thresholds`.
    """
    return {
        "python": platform.python_version(),
        "packages": package_versions(),
        "processor": processor_name(),
        "cores": usable_cores(),
        "memory_gib": usable_memory_gib(),
        "system": platform.platform(),
        "accelerators": [gpu["name"] for gpu in accelerators()],
        "commit": git_commit(),
        "threads": threads,
        "malloc": malloc,
    }


def machine_key() -> str:
    """Return a key of what time and memory depend on: processor, accelerators, system and versions.

    The version of this program is no part of it: its sources are hashed. The first one stands there for every one, so
    that the measures of that release keep their machine.
    """
    facts = collect_environment(threads=0)
    if PROGRAM in facts["packages"]:
        facts["packages"] = {**facts["packages"], PROGRAM: "0.1.0"}
    return content_key({name: value for name, value in facts.items() if name not in ("commit", "threads", "malloc")})


def package_versions() -> dict[str, str]:
    """Return the installed versions of PACKAGES by name; absent packages are left out."""
    versions = {name: package_version(name) for name in PACKAGES}
    return {name: text for name, text in versions.items() if text}


def package_version(package: str) -> str:
    """Return the installed version of `package`; "" where it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@cache
def processor_name() -> str:
    """Return the processor's model name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def usable_memory_gib() -> float | None:
    """Return the memory that this process may use at most in GiB, to one decimal; None where the system does not say.

    It is the installed memory, cut by the control groups' limits.
    """
    try:
        installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    return round(min([installed, *(limit.limit for limit in container.memory_limits())]) / GIB, 1)


def available_memory_bytes() -> int:
    """Return the bytes this process could still take: the system's available memory, cut by the control groups."""
    import psutil

    return min([int(psutil.virtual_memory().available), *(limit.free for limit in container.memory_limits())])


@cache
def accelerators() -> tuple[dict[str, Any], ...]:
    """Return name, memory in GiB and driver of each NVIDIA GPU.

    Returns:
        A dict a GPU; () where there is none or NVIDIA's library does not load.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no library, no driver: all mean that no GPU can be asked
        return ()
    try:
        driver, count = _told(pynvml.nvmlSystemGetDriverVersion), _told(pynvml.nvmlDeviceGetCount) or 0
        return tuple(filter(None, (_gpu_facts(pynvml, index, driver) for index in range(count))))
    finally:
        _told(pynvml.nvmlShutdown)


def _gpu_facts(nvml: Any, index: int, driver: str | None) -> dict[str, Any] | None:
    """Return name, memory and driver of one GPU, None for what NVML does not tell; None for a GPU without a name.

    A part of a GPU (MIG) without the right to see the whole, and a GPU that has fallen off its bus, tell little.
    """
    handle = _told(nvml.nvmlDeviceGetHandleByIndex, index)
    name = None if handle is None else _told(nvml.nvmlDeviceGetName, handle)
    if name is None:
        return None
    memory = _told(nvml.nvmlDeviceGetMemoryInfo, handle)
    return {
        "name": name.decode(errors="replace") if isinstance(name, bytes) else name,
        "memory_gib": None if memory is None else round(memory.total / GIB, 1),
        "driver": driver.decode(errors="replace") if isinstance(driver, bytes) else driver,
    }


def _told(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return NVML's answer; None where it has none, or its library lacks the question."""
    import pynvml

    try:
        return ask(*arguments)
    except (pynvml.NVMLError, AttributeError, OSError, UnicodeDecodeError):
        return None


@cache
def git_commit() -> str | None:
    """Return the commit of this file's checkout, with `+` where files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        answers = [
            subprocess.run(["git", "-C", folder, *words], capture_output=True, text=True, timeout=10, check=True).stdout
            for words in (["rev-parse", "--short=12", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return answers[0].strip() + ("+" if answers[1].strip() else "")


def count_oom_kills() -> int:
    """Return the number of processes the kernel has killed for memory since boot; 0 where it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
