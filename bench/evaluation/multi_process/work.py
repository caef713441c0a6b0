"""Scoring by any number of processes, on one machine or several with a shared folder: each image once.

The images of a split are cut into small chunks, taken by whichever process is free. A chunk is claimed by a file lock,
which dies with its process; its results are a file that appears whole. So the same command continues after any end,
processes may join or be killed at any time, and neither their number nor their order changes a result.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.evaluation.multi_process import results
from bench.evaluation.multi_process.results import ImageResults
from bench.evaluation.protocol import EvaluationProtocol
from unept.checkpoints import model_file
from unept.data import Dataset, open_data
from unept.data.cityscapes import result_path, write_result
from unept.model import UNEPT
from unept.utils.file_locks import LockBusy, file_lock
from unept.utils.finite import NonFiniteError

CHUNK = 4  # pictures
PAUSE = 0.2  # seconds between two looks at what other processes do

At = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class ScoringJob:
    """Everything that a process needs to score a checkpoint.

    Attributes:
        checkpoint: The file.
        own_modules: Allow attention modules of the user's own.
        data: Specification of the data set.
        data_digest: Digest of the split's files; "" for generated scenes.
        split: Name of the split.
        count: Its first so many images are scored.
        classes: Number of classes.
        protocol: Protocol of the evaluation.
        results: Where unrefined predictions go as files for Cityscapes' test server, if anywhere.
        folder: Folder of the chunks.
        device: Device of the process.
        threads: Threads of torch.
    """

    checkpoint: Path
    own_modules: bool
    data: str
    data_digest: str
    split: str
    count: int
    classes: int
    protocol: EvaluationProtocol
    results: Path | None  # where unrefined predictions go as files for Cityscapes' test server, if anywhere
    folder: Path
    device: str
    threads: int

    def chunks(self) -> list[tuple[Path, range]]:
        """Return each chunk's file and the numbers of its images."""
        starts = range(0, self.count, CHUNK)
        return [(self.folder / f"{s:06d}.npz", range(s, min(s + CHUNK, self.count))) for s in starts]

    def done(self) -> int:
        """Return how many images are in the files that are there."""
        return sum(len(numbers) for path, numbers in self.chunks() if path.exists())


def remove_damaged_chunks(job: ScoringJob) -> list[str]:
    """Remove chunks' files that cannot be read, so that their images are due again; return a line for each.

    Also those whose files for the test server are gone. A chunk that another process holds is left to it.
    """
    lines = []
    for path, numbers in job.chunks():
        if not path.exists() or not _damage(path, numbers, job):
            continue
        with _claim(path) as mine:
            wrong = _damage(path, numbers, job) if mine and path.exists() else ""  # it may be anew by now
            if wrong:
                path.unlink()
                lines.append(f"{wrong}; removed, its pictures are evaluated again")
    return lines


def _damage(path: Path, numbers: range, job: ScoringJob) -> str:
    """Return what is wrong with a chunk's file; "" if nothing."""
    try:
        names = results.read_results(path, job.classes).names
    except ValueError as error:
        return str(error)
    if sorted(names) != [*numbers]:
        return f"{path}: results of other pictures"
    if job.results is not None:
        gone = [file for name in names.values() if not (file := result_path(job.results, name)).is_file()]
        return f"{path}: {gone[0]} is gone" if gone else ""
    return ""


def collect_results(job: ScoringJob) -> ImageResults:
    """Return the results of all images, once every chunk is there.

    Raises:
        ValueError: A chunk is missing or damaged; the message names it.
    """
    return results.merge_results((results.read_results(path, job.classes) for path, _ in job.chunks()), job.classes)


def with_refinement(model: nn.Module) -> nn.Module:
    """Return the model, refining at test if it has the heads for it: plain and refined come from one pass."""
    if isinstance(model, UNEPT) and model.mask_head is not None and not model.config.refine_test:
        model.config = replace(model.config, refine_test=True)
    return model


def run_scoring(job: ScoringJob, devices: Sequence[str], *, at: At = lambda _: None) -> None:
    """Score what is left of a job, on each of the devices in a process of its own.

    Args:
        job: What to score.
        devices: One runs in this process; more start a process each.
        at: Called with the number of images that are done.

    Raises:
        ValueError: The checkpoint or an image cannot be read, or a process died.
    """
    if len(devices) == 1:
        _score(replace(job, device=devices[0]), at)
        return
    context = multiprocessing.get_context("spawn")
    refusals: Any = context.SimpleQueue()
    processes = [context.Process(target=_child, args=(replace(job, device=d), refusals), daemon=True) for d in devices]
    try:
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            time.sleep(PAUSE)
            at(job.done())
            if any(process.exitcode for process in processes):
                break
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()
    if not refusals.empty():
        raise ValueError(refusals.get())
    ended = [process.exitcode for process in processes if process.exitcode]
    if job.done() < job.count:
        raise ValueError(f"a process ended with exit status {ended[0]}; the same command continues")


def _child(job: ScoringJob, refusals: Any) -> None:
    """Run one process of `run_scoring`: its refusals go to the parent, who alone hears the keyboard."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _score(job, lambda _: None)
    except ValueError as error:
        refusals.put(str(error))
        sys.exit(1)


def _score(job: ScoringJob, at: At) -> None:
    torch.set_num_threads(job.threads)
    model = with_refinement(model_file.load_model(job.checkpoint, own_modules=job.own_modules).model).to(job.device)
    dataset = open_data(job.data, job.split)
    job.folder.mkdir(parents=True, exist_ok=True)
    while left := [chunk for chunk in job.chunks() if not chunk[0].exists()]:
        scored = [_take(model, dataset, path, numbers, job, at) for path, numbers in left]
        if not any(scored):  # others have claimed what is left; should one of them die, its chunk is free again
            time.sleep(PAUSE)
            at(job.done())
            _end_with_parent()


def _take(model: nn.Module, dataset: Dataset, path: Path, numbers: range, job: ScoringJob, at: At) -> bool:
    """Score one chunk unless another process has it; return True where it was this one."""
    with _claim(path) as mine:
        if not mine or path.exists():
            return False
        results_of_chunk = ImageResults(job.classes)
        for number in numbers:
            _end_with_parent()
            sample = dataset[number]
            try:
                labels = job.protocol.predict_labels(model, sample.image, job.classes)
            except NonFiniteError as error:
                raise ValueError(f"{job.checkpoint}: not scored, image {sample.name}: {error}") from None
            results_of_chunk.add(number, sample.name, sample.label, labels)
            if job.results is not None:
                write_result(job.results, sample.name, labels.plain)
            at(job.done() + len(results_of_chunk.names))
        results_of_chunk.write(path)
        return True


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Enter a context that is True where this process holds the chunk."""
    with ExitStack() as held:
        try:
            held.enter_context(file_lock(path.with_suffix(".lock"), timeout=0))
            mine = True
        except LockBusy:
            mine = False
        yield mine


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        sys.exit(1)
