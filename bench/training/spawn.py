"""Several processes that train together on one machine: started, watched, and all ended when one of them fails.

    launch_processes(work, argument, processes=8, gpus=True, threads=1)

calls `work(argument, group, device)` in each. It raises `TrainingFailed` for the first that failed, and
`TrainingStopped` where they were told to stop. Under torchrun, which does all this itself, `join_torchrun` makes this
process one of its own.
"""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import distributed

from bench import environment
from bench.distributed import ProcessGroup
from bench.errors import one_line
from bench.launchers.queue import STOP_SIGNALS, signal_name
from bench.training.loop import TrainingStopped
from unept.utils.finite import NonFiniteError

Work = Callable[[Any, ProcessGroup, torch.device], None]
# How long one process waits for another in a collective: their pictures may take unequal times.
COLLECTIVE_TIMEOUT = datetime.timedelta(hours=1)
SECOND_SIGNAL_SECONDS = 5.0  # one terminal signal reaches a process by several ways; a later one is meant
GRACE_SECONDS = 2.0  # seconds in which the others' words about a failure are still heard
STOPPED, FAILED, DIVERGED = 130, 1, 3


class TrainingFailed(Exception):
    """Raised when a process of a training failed; the message is one line."""


class TrainingDiverged(TrainingFailed):
    """Raised when a loss, a gradient, a weight or an output is not finite: the same command would repeat it."""


class StopSignals:
    """Notes signals to stop, by `name`, within its context; one SECOND_SIGNAL_SECONDS later has its usual effect.

    Signals that this process ignores stay ignored.
    """

    def __init__(self) -> None:
        self.name = ""
        self._first = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            heard = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if not self.name:
            self.name, self._first = signal_name(number), time.monotonic()
        elif time.monotonic() - self._first > SECOND_SIGNAL_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


def launch_processes(work: Work, argument: Any, *, processes: int, gpus: bool, threads: int) -> None:
    """Call `work` in new processes, and return once all have ended.

    Args:
        work: Called as work(argument, group, device); must pickle.
        argument: Its first argument; must pickle.
        processes: Number of processes.
        gpus: True for a GPU each, the first ones; False for the CPU.
        threads: Threads of each process.

    Raises:
        TrainingFailed: When a process failed. No process is left when this or the next is raised.
        TrainingDiverged: When that was because the training has diverged.
        TrainingStopped: When they were told to stop.
    """
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    with (
        tempfile.TemporaryDirectory() as folder,
        environment.set_variables(_variables(threads)),
        StopSignals() as signals,
    ):
        arguments = (work, argument, processes, gpus, threads, str(Path(folder, "store")), results)
        workers = [context.Process(target=_process_main, args=(rank, *arguments)) for rank in range(processes)]
        for process in workers:
            process.start()
        try:
            codes = _wait_for_processes(workers, signals)
        finally:
            for process in workers:
                process.kill()
                process.join()
    messages = []
    while not results.empty():
        messages.append(results.get())
    _raise_cause(codes, messages, signals.name)


def _wait_for_processes(workers: list[Any], signals: StopSignals) -> list[int | None]:
    """Wait until all processes have ended, or one has failed and the others had GRACE_SECONDS.

    Returns:
        Their exit codes; None for a process that has not ended.
    """
    deadline, forwarded = float("inf"), False
    while any(process.exitcode is None for process in workers) and time.monotonic() < deadline:
        wait([process.sentinel for process in workers if process.exitcode is None], timeout=0.1)
        if signals.name and not forwarded:
            forwarded = True
            for process in workers:
                process.terminate()
        if any(process.exitcode not in (None, 0, STOPPED) for process in workers):
            deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
    return [process.exitcode for process in workers]


def _raise_cause(codes: list[int | None], messages: list[tuple[int, int, str]], stop_signal: str) -> None:
    """Raise the first of failures that follow from each other: of a killed process, else the first reported one.

    A process that stops when told to leaves the others waiting, which then fail: that is a stop.
    """
    for rank, code in enumerate(codes):
        if code is not None and code < 0 and not stop_signal:
            raise TrainingFailed(
                f"process {rank} of {len(codes)} was killed by {signal_name(-code)}; the others are ended"
            )
    stopped = [int(text) for _, code, text in messages if code == STOPPED]
    if stop_signal and stopped:
        raise TrainingStopped(max(stopped))
    for rank, code, text in messages:
        if code == DIVERGED:
            raise TrainingDiverged(text)
        if code == FAILED:
            raise TrainingFailed(f"process {rank} of {len(codes)}: {text}")
    if stop_signal:
        raise TrainingStopped(0)
    silent = [rank for rank, code in enumerate(codes) if code]
    if silent:
        raise TrainingFailed(
            f"process {silent[0]} of {len(codes)} ended with exit code {codes[silent[0]]}, without a word"
        )


def _process_main(
    rank: int, work: Work, argument: Any, size: int, gpus: bool, threads: int, store: str, results: Any
) -> None:
    """Run one of the processes, from start to end."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the starting process decides
    torch.set_num_threads(threads)
    try:
        with joined_process_group(ProcessGroup(rank=rank, size=size), rank if gpus else None, store) as (group, device):
            work(argument, group, device)
    except TrainingStopped as stop:
        results.put((rank, STOPPED, str(stop)))
        os._exit(STOPPED)
    except NonFiniteError as error:
        results.put((rank, DIVERGED, str(error)))
        os._exit(DIVERGED)
    except Exception as error:
        results.put((rank, FAILED, one_line(error)))
        os._exit(FAILED)  # no waiting for the others, who may wait for this one
    sys.exit(0)


@contextlib.contextmanager
def joined_process_group(
    group: ProcessGroup, gpu: int | None, store: str = ""
) -> Iterator[tuple[ProcessGroup, torch.device]]:
    """Make this process one of torch's default group within the context.

    Args:
        group: Rank and size.
        gpu: Index of its GPU; None for the CPU.
        store: File through which the processes meet; "" for torchrun's variables.
    """
    device = torch.device("cpu") if gpu is None else torch.device("cuda", gpu)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        "gloo" if gpu is None else "nccl",
        store=distributed.FileStore(store, group.size) if store else None,
        rank=group.rank,
        world_size=group.size,
        timeout=COLLECTIVE_TIMEOUT,
    )
    yield group, device
    group.barrier()
    distributed.destroy_process_group()


def join_torchrun(gpus: bool) -> contextlib.AbstractContextManager[tuple[ProcessGroup, torch.device]]:
    """Return `joined_process_group` for one of torchrun's processes, on the GPU of its local rank."""
    group = ProcessGroup(rank=int(os.environ["RANK"]), size=environment.torchrun_size())
    return joined_process_group(group, int(os.environ["LOCAL_RANK"]) if gpus else None)


def _end_with_parent() -> None:
    """End this process when the one that started it ends, for any reason."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(FAILED)


def _variables(threads: int) -> dict[str, str]:
    """Return the processes' environment variables: their threads, and the loopback device to communicate over."""
    wanted = environment.thread_variables(threads)
    if sys.platform == "linux":
        wanted["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", "lo")
    return wanted
