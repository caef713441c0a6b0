"""Scores from what a user typed: checkpoints checked against the data, evaluated, and compared in pairs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from bench import environment
from bench.evaluation.multi_process import work
from bench.evaluation.multi_process.results import KINDS, ImageResults
from bench.evaluation.multi_process.work import ScoringJob
from bench.evaluation.options import EvaluationRequest, check_device, check_evaluation
from bench.evaluation.protocol import published_protocol
from bench.launchers.progress import ProgressCounter
from bench.results.data_digest import DataDigest, data_digest, has_files
from bench.results.rows import content_key, json_value
from bench.results.source_hash import source_hash
from bench.stats import bootstrap
from unept.checkpoints import model_file
from unept.config import SLOTS
from unept.data import Dataset, open_data
from unept.data.scene_spec import recorded_spec
from unept.utils.atomic_files import atomic_write
from unept.utils.file_locks import file_lock

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class CheckpointScores:
    """One checkpoint's results: the record for a report, and the counts of every image."""

    record: dict[str, Any]
    results: ImageResults


def evaluate_checkpoints(request: EvaluationRequest, say: Say) -> list[CheckpointScores]:
    """Score each checkpoint, continuing what an earlier call began.

    Args:
        request: Checkpoints, data, protocol and processes.
        say: Called with a line of progress.

    Raises:
        ValueError: The request contains a user's mistake; one line.
    """
    dataset = open_data(request.data, request.split)
    check_evaluation(request, dataset)
    count = min(request.images or len(dataset), len(dataset))
    devices = process_devices(request)
    jobs = [_job(request, path, dataset, count, devices, say) for path in request.checkpoints]
    called = short_names(request.checkpoints)
    return [
        _scored(job, checkpoint, name, dataset, devices, say)
        for (job, checkpoint), name in zip(jobs, called, strict=True)
    ]


def process_devices(request: EvaluationRequest) -> list[str]:
    """Return the device of each process that this one starts, or this one's own alone.

    Raises:
        ValueError: There are fewer GPUs, or the options conflict with torchrun.
    """
    if environment.torchrun_size():
        if request.processes or request.gpus:
            raise ValueError("--processes and --gpus: under torchrun its own options say how many")
        own = torch.cuda.is_available() and request.device == "auto"
        return [f"cuda:{os.environ['LOCAL_RANK']}" if own else resolve_device(request.device)]
    if request.gpus:
        have = torch.cuda.device_count()
        if request.gpus > have:
            raise ValueError(f"--gpus {request.gpus}: this machine has {have}")
        return [f"cuda:{index}" for index in range(request.gpus)]
    return [resolve_device(request.device)] * (request.processes or 1)


def resolve_device(name: str) -> str:
    """Return the name of a device of this machine: `auto` is a GPU where there is one.

    Raises:
        ValueError: The device is not available.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    check_device(name)
    try:
        kind = torch.device(name)
        torch.zeros(1, device=kind)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {name}: not to be had here ({reason})") from None
    return name


def short_names(checkpoints: Sequence[Path]) -> list[str]:
    """Return a short name for each file: its stem, with its folder's name where two are alike, else numbered."""
    for make in (lambda path: path.stem, lambda path: f"{path.resolve().parent.name}-{path.stem}"):
        candidates = [make(path) for path in checkpoints]
        if len(set(candidates)) == len(candidates):
            return candidates
    return [f"{path.stem}-{number}" for number, path in enumerate(checkpoints, 1)]


def paired_comparisons(scored: Sequence[CheckpointScores]) -> list[dict[str, Any]]:
    """Compare each checkpoint with the first, and each refined result with its own plain one, by a paired bootstrap."""
    compared = []
    for checkpoint in scored[1:]:
        compared += _compared(
            checkpoint.record["name"], scored[0].record["name"], checkpoint.results.per_picture(), scored[0]
        )
    for checkpoint in scored:
        if checkpoint.results.refines:
            name = checkpoint.record["name"]
            compared += _compared(
                f"{name}, refined", f"{name}, plain", checkpoint.results.per_picture("refined"), checkpoint
            )
    return compared


def _compared(first: str, second: str, counts: bootstrap.Counts, other: CheckpointScores) -> list[dict[str, Any]]:
    if len(other.results.names) < 2 or not counts[1].any():
        return []
    pairs = bootstrap.paired_bootstrap(counts, other.results.per_picture())
    return [{"first": first, "second": second} | {"value": asdict(pair), "pictures": counts.shape[1]} for pair in pairs]


def _job(
    request: EvaluationRequest, path: Path, dataset: Dataset, count: int, devices: Sequence[str], say: Say
) -> tuple[ScoringJob, model_file.SavedModel]:
    """Return the job of one checkpoint, and the loaded checkpoint."""
    checkpoint = model_file.load_model(path, own_modules=request.own_modules)
    if len(dataset.classes) != checkpoint.config.classes:
        raise ValueError(f"{path}: {checkpoint.config.classes} classes, but {request.data} has {len(dataset.classes)}")
    if checkpoint.classes != dataset.classes and sorted(checkpoint.classes) == sorted(dataset.classes):
        name = next(name for name, other in zip(checkpoint.classes, dataset.classes, strict=True) if name != other)
        here, there = checkpoint.classes.index(name), dataset.classes.index(name)
        raise ValueError(
            f"{path}: its classes are those of {request.data} in another order ({name!r} is number {here} here, "
            f"{there} there): scores would be of other classes"
        )
    if checkpoint.classes != dataset.classes and environment.is_main_process():
        say(f"{path}: its classes are called otherwise than the data's; they are compared by number")
    protocol = request.overrides.over(
        published_protocol(request.data, checkpoint.config.size, checkpoint.facts.get("base"))
    )
    kind = request.data.partition(":")[0]
    data = data_digest(request.data, (request.split,), again=True) if has_files(request.data) else None
    if data and environment.is_main_process():
        for line in _changed_data_lines(request, checkpoint.digest, data):
            say(line)
    decides = {
        "checkpoint": checkpoint.digest,
        "data": f"{kind}:{data.digest}" if data else recorded_spec(request.data),
        "split": request.split,
        "pictures": count,
        "protocol": asdict(protocol),
        "results": str(request.results.resolve()) if request.results else "",
        "sources": source_hash("run", [getattr(checkpoint.config, slot) for slot in SLOTS]),
    }
    sharing = max(len(devices), environment.processes_on_this_machine())
    job = ScoringJob(
        checkpoint=path,
        own_modules=request.own_modules,
        data=request.data,
        data_digest=data.digest if data else "",
        split=request.split,
        count=count,
        classes=checkpoint.config.classes,
        protocol=protocol,
        results=request.results,
        folder=request.out / content_key(json_value(decides)) / "chunks",
        device=devices[0],
        threads=request.threads or max(1, environment.usable_cores() // sharing),
    )
    return job, checkpoint


def _changed_data_lines(request: EvaluationRequest, checkpoint: str, data: DataDigest) -> list[str]:
    """Return a line for each earlier result of the checkpoint on other data at the same place."""
    lines = []
    for path in sorted(request.out.glob("*/scores.json")):
        try:
            before = json.loads(path.read_bytes())
            same = all(
                before[name] == value
                for name, value in (("sha256", checkpoint), ("data", request.data), ("split", request.split))
            )
            digest = before.get("data_digest", "")
        except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
            continue
        if same and digest != data.digest:
            told = (
                "were made before a digest of the data was recorded: data not verified"
                if not digest
                else (
                    f"are of other data: those at {request.data} have changed since, digest {digest} before, "
                    f"{data.digest} now"
                )
            )
            lines.append(f"the scores in {path.parent} {told}")
    return lines


def _scored(
    job: ScoringJob, checkpoint: model_file.SavedModel, name: str, dataset: Dataset, devices: Sequence[str], say: Say
) -> CheckpointScores:
    """Score one checkpoint, and write the results beside its chunks."""
    if environment.is_main_process():
        for line in work.remove_damaged_chunks(job):
            say(line)
    done = job.done()
    if environment.is_main_process():
        already = f", {done} of them done already" if done else ""
        say(f"{name}: {job.count} pictures of {job.data}, {job.split}; {job.protocol.describe()}{already}")
    with ProgressCounter(f"evaluating {name}") if environment.is_main_process() else nullcontext() as counter:
        at = (lambda done: counter(done, job.count)) if counter else (lambda _: None)
        at(done)
        work.run_scoring(job, devices, at=at)
    if job.data_digest and data_digest(job.data, (job.split,), again=True).digest != job.data_digest:
        shutil.rmtree(job.folder, ignore_errors=True)
        raise ValueError(f"the data at {job.data} changed while they were scored: the same command scores them anew")
    results = work.collect_results(job)
    record = {
        "name": name,
        "checkpoint": str(job.checkpoint),
        "sha256": checkpoint.digest,
        "facts": checkpoint.facts,
        "data": recorded_spec(job.data),
        "data_digest": job.data_digest,
        "split": job.split,
        "pictures": job.count,
        "protocol": asdict(job.protocol) | {"words": job.protocol.describe()},
        "classes": [*dataset.classes],
        "scores": {kind: _metrics(results, kind) for kind in KINDS if kind == "plain" or results.refines},
        "environment": environment.collect_environment(threads=job.threads) | {"devices": [*devices]},
    }
    if environment.is_main_process():
        folder = job.folder.parent
        text = json.dumps(json_value(record), indent=1, allow_nan=False) + "\n"
        with file_lock(folder / "scores.lock"):  # the first processes of several machines end at the same time
            results.write(folder / "pictures.npz")
            atomic_write(folder / "scores.json", text.encode())
        record["folder"] = str(folder)
    return CheckpointScores(record=record, results=results)


def _metrics(results: ImageResults, kind: str) -> dict[str, Any]:
    """Return fractions, None where there is none; per class in the order of the classes."""
    scores, edges = results.scores(kind)
    return {
        "miou": scores.miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "iou": [*scores.iou],
        **edges.metrics(),
        "boundary_width_px": edges.boundary_width_px,
        "tolerance_px": edges.tolerance_px,
    }
