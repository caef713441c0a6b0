"""`unept-bench train` from its options to its model: in this process, in several, or as one of torchrun's.

    OUT/training.json          what is trained, and how
    OUT/last.safetensors       the state after some step, until the training is done
    OUT/log.jsonl              a line for every logged step, evaluation and start
    OUT/model.safetensors      the trained model, and OUT/model.json its description
    OUT/result.json            its scores by the whole protocol, and the curve

The same command continues after any end: from the last checkpoint, or from the trained model where only scores are
missing.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

import unept
from bench import environment
from bench.config import checks
from bench.config.grid import Variant
from bench.config.settings import settings_to_dict
from bench.distributed import SINGLE, ProcessGroup
from bench.errors import one_line
from bench.evaluation.evaluate import evaluate_model
from bench.evaluation.protocol import protocol_of_settings
from bench.launchers.eta import format_duration
from bench.results.data_digest import DataDigest, digest_of_settings, has_files
from bench.results.rows import json_value
from bench.results.shapes import NUMBER, check_shape, read_json
from bench.results.store import utc_now
from bench.training import checkpoint, loop
from bench.training.job import (
    DATA_SHAPE,
    ERROR_FILE,
    LOCK_FILE,
    LOG_FILE,
    MODEL_FILE,
    RESULT_FILE,
    TrainingJob,
    comparable_identity,
    create_training_folder,
    read_training_record,
)
from bench.training.logger import LINE_INTERVAL_SECONDS, Log, TrainLogger, check_tensorboard, tensorboard_writer
from bench.training.loop import Callback, TrainingStopped
from bench.training.spawn import StopSignals, TrainingDiverged, TrainingFailed, join_torchrun, launch_processes
from unept.checkpoints import model_file
from unept.config import SLOTS
from unept.data import open_data
from unept.data.scene_spec import recorded_spec
from unept.losses.total_loss import Losses
from unept.utils.atomic_files import atomic_write
from unept.utils.file_locks import LockBusy, file_lock
from unept.utils.finite import NonFiniteError, non_finite_in

RESULT_SHAPE = {
    "metrics": dict.fromkeys(("miou", "miou_refined", "pixel_accuracy"), NUMBER),
    "training": {"seconds": (int, float)},
    "evaluation": {"images": int},
    "data?": DATA_SHAPE,
}


def run_training(job: TrainingJob, log: Log = print) -> dict[str, Any]:
    """Train, evaluate and save, or continue; every process that torchrun has started calls it.

    Args:
        job: The training.
        log: Takes lines for the user.

    Returns:
        The content of result.json.

    Raises:
        ValueError: For a folder of something else, a damaged image, a missing package.
        TrainingFailed: When a process failed.
        TrainingDiverged: When a loss, a gradient, a weight or an output is not finite.
        TrainingStopped: When a signal asked for it.
    """
    if job.tensorboard:
        check_tensorboard()
    threads = environment.thread_variables(job.threads) | {"UNEPT_BACKEND": job.backend}
    data = _data_now(job) if environment.is_main_process() else None
    read_training_record(job, data)  # a folder of something else is refused before anything is put there
    with _training_lock(job), environment.set_variables(threads):
        record = read_training_record(job, data)
        if (job.out / RESULT_FILE).exists() and (job.out / MODEL_FILE).exists():
            log(f"{job.out}: this training is done")
            return _read_result(job)
        if data and not record:
            settings = job.settings
            checks.check_data_sets([Variant(name=settings.model.backbone, axes={}, settings=settings)])
            create_training_folder(job, data)
        elif data and record["manner"] != json.loads(json.dumps(job.manner)):
            log("carried out in another manner than it began: equal to rounding, not to the bit")
        if data and has_files(job.settings.data):
            log(_data_line(job, data, verified="data" in record or not record))
        _start(job)
    return _read_result(job)


def _data_now(job: TrainingJob) -> DataDigest:
    return digest_of_settings(settings_to_dict(job.settings), again=True)


def _data_line(job: TrainingJob, data: DataDigest, *, verified: bool) -> str:
    """Return a line on the data and their digest, by which a reader can tell whether two trainings had the same."""
    unknown = "" if verified else "; not verified, the training began before a training recorded a digest of its data"
    return f"data: {job.settings.data}, digest {data.digest}{unknown}"


def _start(job: TrainingJob) -> None:
    if job.processes == 1 or environment.torchrun_size():
        torch.set_num_threads(job.threads)
        try:
            if environment.torchrun_size():
                with join_torchrun(job.gpus) as (group, device):
                    run_training_process(job, group, device)
            else:
                run_training_process(job, SINGLE, torch.device("cuda" if job.gpus else "cpu"))
        except (TrainingStopped, ValueError, OSError):
            raise
        except NonFiniteError as error:
            raise TrainingDiverged(str(error)) from error
        except Exception as error:
            size = environment.torchrun_size()
            who = f"process {os.environ['RANK']} of {size}: " if size else ""
            raise TrainingFailed(f"{who}{one_line(error)}") from error
    else:
        launch_processes(run_training_process, job, processes=job.processes, gpus=job.gpus, threads=job.threads)


def run_training_process(job: TrainingJob, group: ProcessGroup, device: torch.device) -> None:
    """Run one process's part of the training, to the end. The trace of an exception goes to `errors.log` in the folder.

    Raises:
        TrainingStopped: Where a signal has asked for it.
    """
    try:
        _carry_out(job, group, device)
    except TrainingStopped:
        raise
    except Exception:
        with open(job.out / ERROR_FILE, "a", encoding="utf-8") as file:
            file.write(f"--- {utc_now()} process {group.rank} of {group.size}\n{traceback.format_exc()}")
        raise


def _carry_out(job: TrainingJob, group: ProcessGroup, device: torch.device) -> None:
    malloc = environment.raise_malloc_thresholds()
    settings, path = job.settings, job.out / MODEL_FILE
    with StopSignals() as signals:
        if path.exists():
            own = any(":" in getattr(settings.model, slot) for slot in SLOTS)
            saved_model = model_file.load_model(path, own_modules=own)
            if saved_model.config != settings.model or not isinstance(saved_model.facts.get("training"), dict):
                raise ValueError(f"{path} is not the model of this training; remove it, and the same command goes on")
            model, trained = saved_model.model.to(device), saved_model.facts["training"]
        else:
            if group.is_main_process:
                _check_savable(job)
            torch.manual_seed(job.seed)
            model = unept.build(settings.model, weights=settings.train.backbone_weights).to(device)
            trained = _train_and_save(job, model, group, signals)
        began = time.perf_counter()
        metrics, facts = _evaluate(job, model, group, signals, settings.train.steps)
        if group.is_main_process:
            trained = trained | {"evaluation_seconds": time.perf_counter() - began}
            environment_facts = environment.collect_environment(threads=job.threads, malloc=malloc)
            _write_result(
                job, {"metrics": metrics, "training": trained, "evaluation": facts, "environment": environment_facts}
            )


def _check_savable(job: TrainingJob) -> None:
    """Raise ValueError, before the first step, if the trained model could not be saved."""
    data = open_data(job.settings.data, "train", job.settings.scenes)
    model_file.check_savable(job.settings.model, classes=data.classes, palette=data.palette, facts=_known_facts(job))


def _known_facts(job: TrainingJob) -> dict[str, Any]:
    """Return the facts of the model's file that are known before the training."""
    train = job.settings.train
    return {
        "step": train.steps,
        "seed": job.seed,
        "data": recorded_spec(job.settings.data),
        "preset": job.preset,
        "base": [train.base_long, train.base_short],
    }


def _train_and_save(job: TrainingJob, model: nn.Module, group: ProcessGroup, signals: StopSignals) -> dict[str, Any]:
    """Train `model` and write it; return the facts of the training."""
    settings = job.settings
    callback = _SessionCallback(job, model, group, signals)
    trained = loop.train(
        model,
        settings,
        seed=job.seed,
        folder=job.out,
        progress=lambda *_: None,
        execution=job.execution,
        group=group,
        callback=callback,
    )
    callback.close()
    if group.is_main_process:
        data = open_data(settings.data, "train", settings.scenes)
        model_file.save_model(
            job.out / MODEL_FILE,
            model,
            settings.model,
            classes=data.classes,
            palette=data.palette,
            facts=json_value(_known_facts(job) | {"training": trained}),
        )
    group.barrier()
    return trained


class _SessionCallback(Callback):
    """Logs steps, evaluates on the way, and stops at a signal."""

    def __init__(self, job: TrainingJob, model: nn.Module, group: ProcessGroup, signals: StopSignals) -> None:
        self.job, self.model, self.group, self.signals = job, model, group, signals
        self.logger: TrainLogger | None = None

    def on_train_start(self, step: int) -> None:
        """Open the logger."""
        if not self.group.is_main_process:
            return
        job, train = self.job, self.job.settings.train
        self.logger = TrainLogger(
            job.out / LOG_FILE,
            steps=train.steps,
            batch=train.batch,
            device=next(self.model.parameters()).device,
            writer=tensorboard_writer(job.out / "tensorboard", step) if job.tensorboard else None,
        )
        data = read_training_record(job).get("data", {})
        self.logger.start(
            step, manner=job.manner, data=data, environment=environment.collect_environment(threads=job.threads)
        )
        if step:
            self.logger.log(f"continuing after step {step}")

    def should_checkpoint(self, step: int) -> bool:
        """Return True before an evaluation, which takes long and may be stopped."""
        return step % self.job.eval_every == 0

    def on_step_end(self, step: int, losses: Losses, learning_rate: float) -> None:
        """Log the step, and evaluate every `eval_every` steps."""
        job, last = self.job, step == self.job.settings.train.steps
        if self.logger is not None:
            self.logger.step(step, losses, learning_rate, write=last or step % job.log_every == 0)
        if step % job.eval_every == 0 and not last:
            began = time.monotonic()
            metrics, _ = _evaluate(job, self.model, self.group, self.signals, step)
            self.model.train()
            if self.logger is not None:
                self.logger.evaluated(step, metrics, time.monotonic() - began)

    def on_checkpoint_saved(self, step: int) -> None:
        """Log the checkpoint."""
        if self.logger is not None:
            self.logger.event("saved", step=step)

    def should_stop(self) -> bool:
        """Return True after a signal to stop."""
        return bool(self.signals.name)

    def close(self) -> None:
        """Close the logger after the training."""
        if self.logger is not None:
            self.logger.close()


def _evaluate(
    job: TrainingJob, model: nn.Module, group: ProcessGroup, signals: StopSignals, step: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return metrics by the whole protocol, and facts on how they were made. A signal raises TrainingStopped."""

    def progress(done: int, count: int, _: str) -> None:
        if signals.name:
            raise TrainingStopped(step)
        if group.is_main_process and time.monotonic() - last_printed[0] > LINE_INTERVAL_SECONDS:
            last_printed[0] = time.monotonic()
            print(f"evaluating: {done}/{count} pictures", file=sys.stderr, flush=True)

    last_printed = [time.monotonic()]
    with torch.compiler.set_stance("force_eager"), non_finite_in(f"evaluation after step {step}"):
        metrics, facts, _ = evaluate_model(model, job.settings, progress=progress, group=group)
    return metrics, facts | loop.attention_seeds(model)


def _write_result(job: TrainingJob, result: dict[str, Any]) -> None:
    """Write the result, and remove the checkpoint, which is not needed any more."""
    data = read_training_record(job, _data_now(job)).get("data", {})  # refuses data that changed meanwhile
    facts = job.identity | {"data": data, "manner": job.manner, "command": job.command, "finished": utc_now()}
    content = json_value({**result, **facts})
    atomic_write(job.out / RESULT_FILE, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    (job.out / checkpoint.CHECKPOINT_FILE).unlink(missing_ok=True)


def training_summary(job: TrainingJob, result: dict[str, Any]) -> list[str]:
    """Return the last lines of the command."""
    metrics, trained = result["metrics"], result["training"]
    refined = metrics["miou_refined"]
    after = f" ({_percent(refined)} refined)" if refined is not None else ""
    return [
        f"{job.settings.train.steps} steps in {format_duration(trained['seconds'])}; "
        f"mIoU {_percent(metrics['miou'])}{after}, pixel accuracy {_percent(metrics['pixel_accuracy'])} "
        f"on {result['evaluation']['images']} pictures "
        f"of {job.settings.evaluation.split}: {protocol_of_settings(job.settings).describe()}",
        f"model: {job.out / MODEL_FILE}, scores: {job.out / RESULT_FILE}",
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _read_result(job: TrainingJob) -> dict[str, Any]:
    """Return the content of the result's file, also for processes that did not make it."""
    path = job.out / RESULT_FILE
    again = "remove it, and the same command evaluates the model again"
    try:
        result: dict[str, Any] = read_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is damaged; {again}") from None
    try:
        check_shape(result, RESULT_SHAPE)
    except ValueError as error:
        raise ValueError(f"{path} is no result of this program ({error}); {again}") from None
    recorded = {name: result.get(name) for name in job.identity}
    by_digest = bool(result.get("data"))
    if comparable_identity(recorded, by_digest=by_digest) != comparable_identity(
        json_value(job.identity), by_digest=by_digest
    ):
        raise ValueError(f"{path} is the result of another training; {again}")
    return result


@contextlib.contextmanager
def _training_lock(job: TrainingJob) -> Iterator[None]:
    """Hold the folder's lock within the context, so that no other command trains there; the main process does."""
    if not environment.is_main_process():
        yield
        return
    job.out.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(file_lock(job.out / LOCK_FILE, timeout=0))
        except LockBusy:
            raise ValueError(f"{job.out}: another process trains there") from None
        yield
