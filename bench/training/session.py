"""`unept-bench train` from its options to its model: in this process, in several, or as one of torchrun's.

    OUT/training.json          what is trained, and how
    OUT/last.safetensors       the state after some step, until the training is done
    OUT/log.jsonl              a line for every logged step, evaluation and start
    OUT/model.safetensors      the trained model, and OUT/model.json its description
    OUT/result.json            its scores by the whole protocol, and the curve

The same command continues, whatever ended it: from the last checkpoint, or from the trained model where only scores are
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
from filelock import FileLock, Timeout
from torch import nn

import unept
from bench import environment
from bench.config import checks
from bench.config.grid import Variant
from bench.distributed import SINGLE, ProcessGroup
from bench.errors import one_line
from bench.evaluation.evaluate import evaluate
from bench.evaluation.protocol import of_settings
from bench.launchers.eta import format_duration
from bench.results.rows import json_value
from bench.results.store import utc_now
from bench.training import checkpoint, loop
from bench.training.job import (
    ERROR_FILE,
    LOCK_FILE,
    LOG_FILE,
    MODEL_FILE,
    RESULT_FILE,
    TrainingJob,
    create_training_folder,
    read_training_record,
)
from bench.training.logger import LINE_INTERVAL_SECONDS, Log, TrainLogger, check_tensorboard, tensorboard_writer
from bench.training.loop import Callback, TrainingStopped
from bench.training.spawn import StopSignals, TrainingFailed, join_torchrun, launch_processes, torchrun_size
from unept.checkpoints import model_file
from unept.config import SLOTS
from unept.data import open_data
from unept.losses.total_loss import Losses
from unept.utils.atomic_files import atomic_write


def run_training(training: TrainingJob, say: Log = print) -> dict[str, Any]:
    """Train, evaluate and save, or go on with it; returns the content of result.json.

    Every process that torchrun has started calls it. ValueError for a folder of something else, a damaged picture, a
    missing package; Failed and Stopped as from `launch_processes`.
    """
    if training.tensorboard:
        check_tensorboard()
    threads = environment.thread_variables(training.threads) | {"UNEPT_BACKEND": training.backend}
    read_training_record(training)  # a folder of something else is refused before anything is put there
    with _training_lock(training), environment.set_variables(threads):
        about = read_training_record(training)
        if (training.out / RESULT_FILE).exists() and (training.out / MODEL_FILE).exists():
            say(f"{training.out}: this training is done")
            return _read_result(training)
        if is_main_process() and not about:
            settings = training.settings
            checks.check_data_sets([Variant(name=settings.model.backbone, axes={}, settings=settings)])
            create_training_folder(training)
        elif is_main_process() and about["manner"] != json.loads(json.dumps(training.manner)):
            say("carried out in another manner than it began: equal to rounding, not to the bit")
        _start(training)
    return _read_result(training)


def _start(training: TrainingJob) -> None:
    if training.processes == 1 or torchrun_size():
        torch.set_num_threads(training.threads)
        try:
            if torchrun_size():
                with join_torchrun(training.gpus) as (group, device):
                    run_training_process(training, group, device)
            else:
                run_training_process(training, SINGLE, torch.device("cuda" if training.gpus else "cpu"))
        except (TrainingStopped, ValueError, OSError):
            raise
        except Exception as error:
            who = f"process {os.environ['RANK']} of {torchrun_size()}: " if torchrun_size() else ""
            raise TrainingFailed(f"{who}{one_line(error)}") from error
    else:
        launch_processes(
            run_training_process, training, processes=training.processes, gpus=training.gpus, threads=training.threads
        )


def run_training_process(training: TrainingJob, group: ProcessGroup, device: torch.device) -> None:
    """One process's part of the training, to the end. Raises Stopped where a signal has asked for it.

    The trace of any other exception goes to `errors.log` in the folder.
    """
    try:
        _carry_out(training, group, device)
    except TrainingStopped:
        raise
    except Exception:
        with open(training.out / ERROR_FILE, "a", encoding="utf-8") as file:
            file.write(f"--- {utc_now()} process {group.rank} of {group.size}\n{traceback.format_exc()}")
        raise


def _carry_out(training: TrainingJob, group: ProcessGroup, device: torch.device) -> None:
    malloc = environment.raise_malloc_thresholds()
    settings, path = training.settings, training.out / MODEL_FILE
    with StopSignals() as told:
        if path.exists():
            own = any(":" in getattr(settings.model, slot) for slot in SLOTS)
            found = model_file.load_model(path, own_modules=own)
            if found.config != settings.model or not isinstance(found.facts.get("training"), dict):
                raise ValueError(f"{path} is not the model of this training; remove it, and the same command goes on")
            model, trained = found.model.to(device), found.facts["training"]
        else:
            torch.manual_seed(training.seed)
            model = unept.build(settings.model, weights=settings.train.backbone_weights).to(device)
            trained = _train_and_save(training, model, group, told)
        began = time.perf_counter()
        metrics, facts = _evaluate(training, model, group, told, settings.train.steps)
        if group.is_main_process:
            trained = trained | {"evaluation_seconds": time.perf_counter() - began}
            made = environment.collect_environment(threads=training.threads, malloc=malloc)
            _write_result(training, {"metrics": metrics, "training": trained, "evaluation": facts, "environment": made})


def _train_and_save(training: TrainingJob, model: nn.Module, group: ProcessGroup, told: StopSignals) -> dict[str, Any]:
    """Train `model` and write it; returns the facts of the training."""
    settings = training.settings
    callback = _SessionCallback(training, model, group, told)
    trained = loop.train(
        model,
        settings,
        seed=training.seed,
        folder=training.out,
        progress=lambda *_: None,
        execution=training.execution,
        group=group,
        callback=callback,
    )
    callback.close()
    if group.is_main_process:
        data = open_data(settings.data, "train", settings.scenes)
        train = settings.train
        facts = {
            "step": train.steps,
            "seed": training.seed,
            "data": settings.data,
            "preset": training.preset,
            "base": [train.base_long, train.base_short],
            "training": trained,
        }
        model_file.save_model(
            training.out / MODEL_FILE,
            model,
            settings.model,
            classes=data.classes,
            palette=data.palette,
            facts=json_value(facts),
        )
    group.barrier()
    return trained


class _SessionCallback(Callback):
    """What is done between steps: the journal's lines, the evaluations on the way, a look at the signals."""

    def __init__(self, training: TrainingJob, model: nn.Module, group: ProcessGroup, told: StopSignals) -> None:
        self.training, self.model, self.group, self.told = training, model, group, told
        self.journal: TrainLogger | None = None

    def on_train_start(self, step: int) -> None:
        """Open the journal."""
        if not self.group.is_main_process:
            return
        training, train = self.training, self.training.settings.train
        self.journal = TrainLogger(
            training.out / LOG_FILE,
            steps=train.steps,
            batch=train.batch,
            device=next(self.model.parameters()).device,
            board=tensorboard_writer(training.out / "tensorboard", step) if training.tensorboard else None,
        )
        self.journal.start(
            step, manner=training.manner, environment=environment.collect_environment(threads=training.threads)
        )
        if step:
            self.journal.say(f"going on after step {step}")

    def should_checkpoint(self, step: int) -> bool:
        """Before an evaluation, which takes long and may be stopped."""
        return step % self.training.eval_every == 0

    def on_step_end(self, step: int, losses: Losses, rate: float) -> None:
        training, last = self.training, step == self.training.settings.train.steps
        if self.journal is not None:
            self.journal.step(step, losses, rate, log=last or step % training.log_every == 0)
        if step % training.eval_every == 0 and not last:
            began = time.monotonic()
            metrics, _ = _evaluate(training, self.model, self.group, self.told, step)
            self.model.train()
            if self.journal is not None:
                self.journal.evaluated(step, metrics, time.monotonic() - began)

    def on_checkpoint_saved(self, step: int) -> None:
        if self.journal is not None:
            self.journal.event("saved", step=step)

    def should_stop(self) -> bool:
        return bool(self.told.name)

    def close(self) -> None:
        """Training is done."""
        if self.journal is not None:
            self.journal.close()


def _evaluate(
    training: TrainingJob, model: nn.Module, group: ProcessGroup, told: StopSignals, step: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metrics by the whole protocol, and how they were made. Raises Stopped where a signal came."""

    def progress(done: int, count: int, _: str) -> None:
        if told.name:
            raise TrainingStopped(step)
        if group.is_main_process and time.monotonic() - spoke[0] > LINE_INTERVAL_SECONDS:
            spoke[0] = time.monotonic()
            print(f"evaluating: {done}/{count} pictures", file=sys.stderr, flush=True)

    spoke = [time.monotonic()]
    with torch.compiler.set_stance("force_eager"):
        metrics, facts, _ = evaluate(model, training.settings, progress=progress, group=group)
    return metrics, facts | loop.attention_seeds(model)


def _write_result(training: TrainingJob, result: dict[str, Any]) -> None:
    """Write the result; the state for going on is needed no more."""
    told = training.identity | {"manner": training.manner, "command": training.command, "finished": utc_now()}
    content = json_value({**result, **told})
    atomic_write(training.out / RESULT_FILE, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
    (training.out / checkpoint.CHECKPOINT_FILE).unlink(missing_ok=True)


def training_summary(training: TrainingJob, result: dict[str, Any]) -> list[str]:
    """The last lines of the command."""
    metrics, trained = result["metrics"], result["training"]
    refined = metrics["miou_refined"]
    after = f" ({_percent(refined)} refined)" if refined is not None else ""
    return [
        f"{training.settings.train.steps} steps in {format_duration(trained['seconds'])}; "
        f"mIoU {_percent(metrics['miou'])}{after}, pixel accuracy {_percent(metrics['pixel_accuracy'])} "
        f"on {result['evaluation']['images']} pictures "
        f"of {training.settings.evaluation.split}: {of_settings(training.settings).words()}",
        f"model: {training.out / MODEL_FILE}, scores: {training.out / RESULT_FILE}",
    ]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"


def _read_result(training: TrainingJob) -> dict[str, Any]:
    """The content of the result, as it is read back by whoever did not make it."""
    path = training.out / RESULT_FILE
    try:
        result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError(f"{path} is damaged; remove it, and the same command evaluates the model again") from None
    return result


def is_main_process() -> bool:
    """Whether this process writes and speaks for all that torchrun has started."""
    return not torchrun_size() or os.environ["RANK"] == "0"


@contextlib.contextmanager
def _training_lock(training: TrainingJob) -> Iterator[None]:
    """Hold the folder, so that no other command trains in it; of torchrun's processes the first does."""
    if not is_main_process():
        yield
        return
    training.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(training.out / LOCK_FILE, timeout=0):
            yield
    except Timeout:
        raise ValueError(f"{training.out}: another process trains there") from None
