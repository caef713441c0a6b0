"""The options of one training, and how it is carried out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from bench.config import checks
from bench.config.fields import replace_fields
from bench.config.grid import PROFILES
from bench.config.option_fields import check_options, nested_options, option
from bench.config.presets import PRESETS, preset
from bench.config.settings import Settings
from bench.config.shared_options import backend_option, data_option, fields_option, process_threads_option

if TYPE_CHECKING:
    import torch

BACKBONE_ALIASES = {"deit": "deit_base", "r50": "resnet50"}  # the paper's words for them
Precision = Literal["fp32", "bf16"]
LossNormalization = Literal["global", "device"]
RECIPE, DEVICES, SPEED, LOGGING = "What is trained", "Devices", "Speed and memory", "Folder and log"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """Precision, micro-batches and recomputation of a training.

    Args:
        precision: "bf16" runs the forward pass under autocast; weights and losses stay float32.
        accumulation: Micro-batches a step, one after the other, of a process's part of the batch.
        channels_last: Memory format of the images and of the model.
        compile: Compile the model by torch.compile, in training only.
        checkpointing: Keep the inputs of each block alone and recompute it in the backward pass.
        workers: Loader processes of each process; None for 4 beside a GPU, else 0.
        loss_normalization: Pixel counts and class shares that the losses are divided by: "global" counts the whole
            batch, "device" each micro-batch on each device and averages the losses, as the released code does under
            DistributedDataParallel.

    Raises:
        ValueError: For values that do not go together.
    """

    precision: Precision = option(
        "fp32",
        help="fp32, or bf16 by autocast.",
        metavar="NAME",
        group=SPEED,
        choices=get_args(Precision),
        completes="choices",
    )
    accumulation: int = option(
        1, help="Micro-batches of a process's share of the batch.", metavar="N", group=SPEED, least=1
    )
    channels_last: bool = option(False, help="Convolutions with channels last; on a CPU always.", group=SPEED)
    compile: bool = option(False, help="Train with torch.compile.", group=SPEED)
    checkpointing: bool = option(False, help="Recompute each block's activations.", group=SPEED)
    workers: int | None = option(
        None,
        help="Data loaders of each process.",
        metavar="N",
        group=SPEED,
        default_text="4 beside a GPU, else 0",
        least=0,
    )
    loss_normalization: LossNormalization = "global"

    def __post_init__(self) -> None:
        options = (
            ("precision", self.precision, Precision),
            ("loss-normalization", self.loss_normalization, LossNormalization),
        )
        for name, word, kind in options:
            if word not in get_args(kind):
                raise ValueError(f"--{name} {word}: expected {' or '.join(get_args(kind))}")
        for name, value, least in (("accumulation", self.accumulation, 1), ("workers", self.workers or 0, 0)):
            if value < least:
                raise ValueError(f"--{name} {value}: expected at least {least}")
        if self.compile and self.checkpointing:
            raise ValueError("--compile and --checkpointing: give one of them; torch.compile recomputes by itself")

    def loaders(self, device: torch.device) -> int:
        """Return the number of loader processes of a process that computes on `device`."""
        return (0 if device.type == "cpu" else 4) if self.workers is None else self.workers


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The options of a training. 0, "" and None stand for a default that depends on preset, profile and machine."""

    data: str = data_option(RECIPE)
    preset: str = option(
        "paper", help="quick, small or paper.", metavar="NAME", group=RECIPE, choices=PRESETS, completes="choices"
    )
    profile: str = option(
        "",
        help="paper: the text; released: its authors' code.",
        metavar="NAME",
        group=RECIPE,
        default_text="the preset's own fields",
        choices=tuple(PROFILES),
        completes="choices",
    )
    backbone: str = option(
        "", help="deit, r50, or any.", metavar="NAME", group=RECIPE, default_text="the preset's", completes="backbones"
    )
    fields: tuple[str, ...] = fields_option("Any field: batch=8 N=4 heads=2.", RECIPE)
    steps: int = option(0, help="Training steps.", metavar="N", group=RECIPE, default_text="the preset's", least=0)
    seed: int = option(0, help="Random seed for initialisation and sampling.", metavar="N", group=RECIPE, least=0)
    backbone_weights: str = option(
        "",
        help="A file, imagenet (timm's hub), or none.",
        metavar="FILE",
        group=RECIPE,
        default_text="the preset's",
        completes="files",
    )
    loss_normalization: LossNormalization | None = option(
        None,
        help="Normalisation of the loss: over the whole batch (global) or on each device.",
        metavar="NAME",
        older_name="denominators",
        group=RECIPE,
        default_text="the profile's",
        choices=get_args(LossNormalization),
        completes="choices",
    )
    gpus: int | None = option(
        None, help="GPUs, a process each.", metavar="N", group=DEVICES, default_text="1 if there is any", least=0
    )
    processes: int = option(0, help="Processes on the CPU.", metavar="N", group=DEVICES, default_text="1", least=0)
    threads: int = process_threads_option(DEVICES)
    backend: str = backend_option(DEVICES)
    execution: Execution = nested_options(Execution)
    out: Path | None = option(
        None,
        help="The training's folder.",
        metavar="FOLDER",
        group=LOGGING,
        default_text="training/PRESET-DATA-BACKBONE",
        completes="files",
        writes="folder",
    )
    eval_every: int = option(10_000, help="Steps between evaluations.", metavar="N", group=LOGGING, least=1)
    log_every: int = option(50, help="Steps between lines of the log.", metavar="N", group=LOGGING, least=1)
    tensorboard: bool = option(False, help="Write curves for TensorBoard too.", group=LOGGING)
    command: str = ""


def training_base(options: TrainOptions) -> Settings:
    """Return the settings that fields change: the preset with the options' steps, backbone and the data's classes.

    Reads the names of the data set's files. Raises ValueError for options out of range and data that are not there.
    """
    check_options(options)
    base = replace_fields(preset(options.preset, options.data), {"probes": 0})  # --eval-every is for that
    changes = {"steps": options.steps, "backbone": BACKBONE_ALIASES.get(options.backbone, options.backbone)}
    base = replace_fields(base, {name: value for name, value in changes.items() if value})
    return replace_fields(base, {"classes": len(checks.read_class_names(base, named_by_user=bool(options.data)))})


def check_batch(batch: int, processes: int, accumulation: int) -> int:
    """Return the number of images of one micro-batch.

    Args:
        batch: Images a step.
        processes: Number of processes.
        accumulation: Micro-batches a step of each process.

    Raises:
        ValueError: For a batch that cannot be divided evenly.
    """
    micro_batch_count = processes * accumulation
    if batch % micro_batch_count:
        shares = f"{processes} processes x {accumulation} pieces" if accumulation > 1 else f"{processes} processes"
        raise ValueError(f"batch={batch} over {shares}: expected a multiple of {micro_batch_count}")
    return batch // micro_batch_count
