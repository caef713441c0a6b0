"""Schedule, batch, evaluation, memory and time of a training, before it starts. No weights, no GPU."""

from __future__ import annotations

from functools import partial

import unept
from bench.config import presets
from bench.errors import message_line
from bench.evaluation.evaluate import evenly_spaced
from bench.evaluation.protocol import protocol_of_settings
from bench.launchers.eta import format_duration
from bench.profiling.complexity import complexity_record
from bench.profiling.memory.predict import predict_peak
from bench.profiling.memory.setting import StepSetting
from bench.results.gpu_assumption import GpuAssumption
from bench.training.checkpoint import CHECKPOINT_FILE
from bench.training.job import MODEL_FILE, RESULT_FILE, TrainingJob, read_training_record
from bench.training.optimizer import schedule_text
from bench.units import GIB
from unept.data import open_data
from unept.inference import count_windows

# A second, that a GPU is assumed to sustain: nothing here was measured on one. float32 as `unept-bench hours` has it.
ASSUMED_TFLOPS = {"fp32": GpuAssumption.peak * GpuAssumption.share, "bf16": 40.0}
SAMPLED_IMAGES = 8  # pictures whose sizes stand for the split's


def training_estimate_lines(training: TrainingJob) -> list[str]:
    """Return the estimate of a training as lines of text."""
    settings = training.settings
    make = partial(unept.build, settings.model)
    counted = complexity_record(settings.model.backbone, make, (settings.model.size, settings.model.size))
    windows, pictures = _evaluated(training)
    return [
        f"training: {settings.model.architecture} on {settings.model.backbone}, {counted['parameters'] / 1e6:.2f} M "
        f"parameters, crops of {settings.model.size} px, {settings.model.classes} classes, {settings.data}",
        _schedule(training),
        _batch(training),
        f"evaluation: {_times(training)}, {pictures} pictures of {settings.evaluation.split}, "
        f"{protocol_of_settings(settings).describe()}; {windows:.0f} window{'s' * (windows > 1)} a picture",
        _memory(training, counted["parameters"]),
        _time(training, counted["gmacs"], windows * pictures),
        _folder(training),
    ]


def _schedule(training: TrainingJob) -> str:
    settings, train = training.settings, training.settings.train
    images = len(open_data(settings.data, "train", settings.scenes))
    offsets = f", the sampling offsets' x {train.offset_lr:g}" if train.offset_lr != 1 else ""
    return (
        f"schedule: {train.steps} steps, {train.steps * train.batch / images:.2f} times the {images} pictures; "
        f"{schedule_text(train)}, the backbone's x {train.backbone_lr:g}{offsets}; a checkpoint every "
        f"{train.checkpoint_every} steps"
    )


def _batch(training: TrainingJob) -> str:
    batch, pieces = training.settings.train.batch, training.execution.accumulation
    images = batch // (training.processes * pieces)
    where = f"{training.processes} GPUs" if training.gpus else f"{training.processes} processes on the CPU"
    where = where.replace("1 GPUs", "1 GPU").replace("1 processes", "1 process")
    options = [name for name in ("channels_last", "compile", "checkpointing") if getattr(training.execution, name)]
    how = ", ".join([training.execution.precision, *options])
    return f"batch: {batch} = {where} x {pieces} pieces x {images} images; {how}".replace(" x 1 pieces", "")


def _times(training: TrainingJob) -> str:
    steps, every = training.settings.train.steps, training.eval_every
    return f"every {every} steps and at the end" if every < steps else "at the end"


def _evaluated(training: TrainingJob) -> tuple[float, int]:
    """Return the windows of an image (mean over some of them), and the number of images."""
    settings = training.settings
    dataset = open_data(settings.data, settings.evaluation.split, settings.scenes)
    protocol = protocol_of_settings(settings)
    count = min(settings.evaluation.images or len(dataset), len(dataset))
    sizes = [dataset[index].image.shape[:2] for index in evenly_spaced(count, SAMPLED_IMAGES)]
    return sum(count_windows(*size, **protocol.keywords()) for size in sizes) / len(sizes), count


def _memory(training: TrainingJob, parameters: int) -> str:
    """Return the line on one process's memory: a traced step, and gradients that are held through the forward pass."""
    settings, execution = training.settings, training.execution
    setting = StepSetting(
        batch=settings.train.batch // (training.processes * execution.accumulation),
        size=settings.model.size,
        precision=execution.precision,
        checkpointing=execution.checkpointing,
        bounded=settings.loss.bounded,
        device="cuda" if training.gpus else "cpu",
    )
    try:
        peak = predict_peak(settings, setting).bytes
    except (RuntimeError, ValueError) as error:
        return f"memory: cannot be predicted ({message_line(error, 150)})"
    held_gradients = 4 * parameters if training.processes > 1 or execution.accumulation > 1 else 0
    where = f"on each of {training.processes} processes" if training.processes > 1 else "in all"
    return (
        f"memory: {(peak + held_gradients) / GIB:.2f} GiB of tensors {where}, predicted by tracing a step; "
        "a lower bound of what the device shows"
    )


def _time(training: TrainingJob, gmacs: float, windows: float) -> str:
    """Return the line on training and all evaluations, each window at a third of the time of a training image."""
    train, model = training.settings.train, training.settings.model
    images = train.steps * train.batch
    if training.gpus:
        rate = ASSUMED_TFLOPS[training.execution.precision]
        seconds_per_image = 6e9 * gmacs / (1e12 * rate * training.processes)
        basis = (
            f"{6 * gmacs / 1000:.3g} TFLOP an image forward and backward, an assumed {rate:g} TFLOP/s a GPU, "
            "loading and communication hidden"
        )
    else:
        seconds_per_image = (
            presets.estimate_training_seconds(training.settings, training.threads * training.processes) / images
        )
        basis = f"a guess from other runs on CPUs, {training.threads * training.processes} threads"
    evaluations = (train.steps - 1) // training.eval_every + 1
    scale = (training.settings.evaluation.window / model.size) ** 2
    testing = evaluations * windows * scale * seconds_per_image / 3
    times = f"{evaluations} evaluations" if evaluations > 1 else "the evaluation"
    training_time, testing_time = format_duration(images * seconds_per_image), format_duration(testing)
    return f"time: {training_time} of training and {testing_time} of {times}: {basis}"


def _folder(training: TrainingJob) -> str:
    out = training.out
    if not read_training_record(training):
        return f"folder: {out}, new"
    if (out / RESULT_FILE).exists() and (out / MODEL_FILE).exists():
        return f"folder: {out}, this training is done"
    start = "its last checkpoint" if (out / CHECKPOINT_FILE).exists() else "the beginning"
    return f"folder: {out}, goes on from {'the trained model' if (out / MODEL_FILE).exists() else start}"
