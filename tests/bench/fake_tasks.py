"""Tasks that take milliseconds and import nothing heavy, for the tests of the queue and the command."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Spec = dict[str, Any]
Progress = Callable[[int, int, str], None]


class NonFiniteError(ArithmeticError):
    """Told by its name, like the recipe's."""


class OutOfMemoryError(RuntimeError):
    """Told by its name, like torch's."""


def result(spec: Spec) -> Spec:
    """Numbers that depend on the run and on nothing else."""
    score = int(spec["key"], 16) / 16**16
    metrics = {"miou": score, "pixel_accuracy": score / 3, "miou_refined": None, "pixel_accuracy_refined": None}
    metrics["iou"] = {"sky": score, "box": float("nan")}
    return {"status": "ok", "message": "", "metrics": metrics, "training": {"seconds": 0.1}}


def quick(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Done at once; leaves a line in $FAKE_LEDGER, and says so if anything imported torch."""
    _enter_in_ledger(spec)
    assert "torch" not in sys.modules
    progress(1, 1, "loss 1.000")
    return result(spec)


def by_rate(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """A score that is best at the learning rate $FAKE_BEST_RATE, and no score from $FAKE_TOO_HIGH on."""
    _enter_in_ledger(spec)
    rate, best = spec["settings"]["train"]["lr"], float(os.environ["FAKE_BEST_RATE"])
    if rate >= float(os.environ.get("FAKE_TOO_HIGH", "inf")):
        raise NonFiniteError("loss is nan")
    made = result(spec)
    return made | {"metrics": made["metrics"] | {"miou": 0.7 - 0.01 * max(rate / best, best / rate)}}


def in_steps(spec: Spec, folder: Path, progress: Progress, pause: float = 0.02) -> Spec:
    """Ten steps with a checkpoint after each; the sum it ends with is wrong if a step is left out or done twice."""
    _enter_in_ledger(spec)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "state.json"
    state = json.loads(file.read_text()) if file.exists() else {"step": 0, "sum": 0}
    while state["step"] < 10:
        time.sleep(pause)
        state = {"step": state["step"] + 1, "sum": state["sum"] + 2 ** state["step"]}
        (folder / "tmp").write_text(json.dumps(state))
        (folder / "tmp").replace(file)
        progress(state["step"], 10, "loss 1.000")
    made = result(spec)
    made["metrics"]["sum"] = state["sum"]
    return made


def in_slow_steps(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """The same in some seconds."""
    return in_steps(spec, folder, progress, pause=0.5)


def slow(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """A minute, unless something ends it."""
    _enter_in_ledger(spec)
    time.sleep(60)
    return result(spec)


def by_seed(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Every seed ends in another way."""
    _enter_in_ledger(spec)
    endings: list[Callable[[], None]] = [
        lambda: None,
        lambda: _raise(RuntimeError("two\nlines")),
        lambda: _raise(NonFiniteError("loss is nan")),
        lambda: _raise(MemoryError("3 TiB")),
        lambda: _raise(OutOfMemoryError("CUDA: tried 3 TiB")),
        lambda: _raise(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 3 TiB")),
        lambda: _raise(NotImplementedError("no such kernel")),
        lambda: os.kill(os.getpid(), signal.SIGKILL),
        lambda: sys.exit(3),
        _bad_alloc,
        lambda: os.kill(os.getpid(), signal.SIGSEGV),
    ]
    print("a task may print", flush=True)
    endings[spec["seed"]]()
    return result(spec)


def unwell(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Variants of which one raises, one makes NaN, and three ask for more memory than there is; the others are well."""
    points = spec["axes"]["points"]
    if points in (16, 32):
        _limit_memory(2 << 30)
    if points == 4:
        raise ZeroDivisionError("division\nby zero")
    if points == 8:
        return result(spec) | {"metrics": {"miou": float("nan"), "pixel_accuracy": float("inf")}}
    if points == 16:
        bytearray(8 << 30)
    if points == 32:
        held = []
        while True:
            held.append(bytearray(64 << 20))
    if points == 64:
        importlib.import_module("torch").empty(1 << 50)
    return result(spec)


def failing_until_mended(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Fails unless the file $FAKE_MENDED exists."""
    if not Path(os.environ["FAKE_MENDED"]).exists():
        raise RuntimeError("not mended")
    return result(spec)


def disk_full(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """The first seed is well, the others find the disk full."""
    if spec["seed"]:
        raise OSError(errno.ENOSPC, "No space left on device")
    return result(spec)


def large_row(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """A row of 400 kB."""
    made = result(spec)
    made["training"]["curve"] = ["x" * 1000] * 400
    return made


def no_further_thread(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """As where a worker's libraries may start no thread: what they print, and the process's end."""
    print("libgomp: Thread creation failed: Resource temporarily unavailable", file=sys.stderr, flush=True)
    os._exit(1)


def own_status(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """A task may name its status."""
    return result(spec) | {"status": "skipped", "message": "a smaller one ran out of memory"}


def threads(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Report the environment the worker was given."""
    made = result(spec)
    made["training"] = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED")}
    return made


def gpu(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Report the GPUs the worker sees, and when."""
    _enter_in_ledger(spec)
    began = time.time()
    time.sleep(0.3)
    made = result(spec)
    made["training"] = {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES"), "began": began, "ended": time.time()}
    return made


def told_to_stop(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Told to, by whoever looks after the machine."""
    os.kill(os.getpid(), signal.SIGTERM)
    return result(spec)


def drawing(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Keeps pictures, in words."""
    path = Path(spec["pictures"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(f"drawn by seed {spec['seed']}".encode())
    return result(spec)


def measure(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """A measure of a variant; notes how many others run at the same time."""
    _enter_in_ledger(spec)
    return {"status": "ok", "message": "", "metrics": {"parameters": 1000}, "protocol": {"batch": 8}}


def _enter_in_ledger(spec: Spec) -> None:
    if "FAKE_LEDGER" in os.environ:
        with open(os.environ["FAKE_LEDGER"], "a", encoding="utf-8") as ledger:
            ledger.write(f"{spec['kind']} {spec['key']} {os.getpid()}\n")


def _bad_alloc() -> None:
    print("terminate called after throwing an instance of 'std::bad_alloc'", file=sys.stderr, flush=True)
    os.abort()


def _limit_memory(size: int) -> None:
    """From here on this process may map so many bytes and no more."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (size, size))


def _raise(error: Exception) -> None:
    raise error


def own_module(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """The score that the user's module in the slot has; the first seed then edits the original, $FAKE_ORIGINAL."""
    _enter_in_ledger(spec)
    slot = spec["settings"]["model"]["encoder_self"]
    score = importlib.import_module(slot.partition(":")[0]).score() if ":" in slot else 0.5
    if spec["seed"] == 0:
        Path(os.environ["FAKE_ORIGINAL"]).write_text("FACTOR = 0.75\n")
    made = result(spec)
    return made | {"metrics": made["metrics"] | {"miou": score}}


def user_code(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """A user's code by the seed: whatever it does, its run ends with a row and its worker with the run."""
    read = sys.stdin.read()
    progress(1, 2, "")
    doings: list[Callable[[], object]] = [
        lambda: None,
        lambda: input("a forgotten question"),
        lambda: breakpoint(),
        lambda: sys.exit(0),
        lambda: os._exit(0),
        lambda: os.chdir("/"),
        lambda: threading.Thread(target=time.sleep, args=(600,)).start(),
        lambda: os.fork(),
        lambda: os.fork() or time.sleep(600),
        lambda: os.closerange(3, 64),
    ]
    doings[spec["seed"]]()
    progress(2, 2, "")
    made = result(spec)
    made["metrics"]["read"] = read
    return made


def pausing(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """Two seconds without a word."""
    time.sleep(2)
    return result(spec)


def alone(spec: Spec, folder: Path, progress: Progress) -> Spec:
    """A measure that fails beside another one."""
    marker = Path(spec["out"]) / "measuring"
    with open(marker, "x"):
        time.sleep(0.05)
    marker.unlink()
    made = result(spec)
    made["metrics"] |= {"process": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}
    return made
