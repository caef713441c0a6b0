"""Specification of a training, made from the command's options, and the record of it in its folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import environment
from bench.config import checks
from bench.config.attention_options import without_defaults
from bench.config.fields import replace_fields
from bench.config.grid import PROFILE_AXIS, Variant, with_field_values
from bench.config.settings import Settings, settings_to_dict
from bench.results import attention_trials
from bench.results.data_digest import DataDigest, describe_difference, has_files, read_files, write_files
from bench.results.shapes import check_shape, read_json
from bench.results.source_hash import slots_of, user_roles
from bench.results.store import utc_now
from bench.training.options import (
    BACKBONE_ALIASES,
    Execution,
    LossNormalization,
    TrainOptions,
    check_batch,
    training_base,
)
from unept.catalogue import IMAGENET
from unept.config_rules import check_weights
from unept.utils.atomic_files import atomic_write

FORMAT = "unept-bench training"
ERROR_FILE = "errors.log"
RECORD_FILE, LOCK_FILE, LOG_FILE, MODEL_FILE, RESULT_FILE = (
    "training.json",
    "training.lock",
    "log.jsonl",
    "model.safetensors",
    "result.json",
)
DATA_FILE = "data.json"  # digests of the data's files
NO_WEIGHTS = "none"
DATA_SHAPE = {"digest?": str, "splits?": {"*": str}}
IDENTITY_SHAPE = {"settings": {"data": str, "model": dict}}
RECORD_SHAPE = {"format": str, "identity": IDENTITY_SHAPE, "manner": dict, "data?": DATA_SHAPE}


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """Everything that the processes of one training need to know.

    Args:
        settings: What is trained.
        preset: Name of the preset.
        seed: Random seed for initialisation and sampling.
        out: The training's folder.
        execution: Precision, micro-batches and recomputation.
        processes: Number of processes.
        gpus: True if each process has a GPU.
        threads: Threads of a process.
        backend: Attention backend.
        eval_every: Steps between evaluations.
        log_every: Steps between lines of the log.
        tensorboard: True to write curves for TensorBoard.
        command: The command line, for the record.
    """

    settings: Settings
    preset: str
    seed: int
    out: Path
    execution: Execution
    processes: int
    gpus: bool
    threads: int
    backend: str
    eval_every: int
    log_every: int
    tensorboard: bool
    command: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that decides its numbers, apart from its execution: another identity is another training."""
        return {"settings": settings_to_dict(self.settings), "preset": self.preset, "seed": self.seed}

    @property
    def manner(self) -> dict[str, Any]:
        """Its execution, as the record keeps it."""
        execution = dataclasses.asdict(self.execution)
        execution["denominators"] = execution.pop("loss_normalization")  # its key in the file
        names = ("processes", "gpus", "threads", "backend")
        return execution | {name: getattr(self, name) for name in names}


def build_training_job(options: TrainOptions, *, dry_run: bool = False) -> TrainingJob:
    """Return the training that the options mean on this machine.

    Args:
        options: The options.
        dry_run: True where weights are not fetched and GPUs need not be there.

    Raises:
        ValueError: In one line, for every mistake that can be detected without training.
    """
    settings = _settings(options)
    out = options.out or _default_out(options.preset, settings)
    _check_training_folder(out)
    if options.gpus and options.processes:
        raise ValueError("--gpus and --processes: give one of them; a process on each GPU, or processes on the CPU")
    check_batch(settings.train.batch, options.gpus or options.processes or 1, options.execution.accumulation)
    if not dry_run:
        check_weights(settings.train.backbone_weights)
    processes, gpus = _processes(options, dry_run=dry_run)
    execution = _execution(options, gpus=gpus)
    check_batch(settings.train.batch, processes, execution.accumulation)
    built = replace_fields(settings, {"backbone_weights": ""}) if dry_run else settings
    checks.check_variants([Variant(name=settings.model.backbone, axes={}, settings=built)])
    return TrainingJob(
        settings=settings,
        preset=options.preset,
        seed=options.seed,
        out=out,
        execution=execution,
        processes=processes,
        gpus=gpus,
        threads=options.threads or max(1, environment.usable_cores() // processes),
        backend="auto" if dry_run and gpus else checks.resolve_backend(options.backend),
        eval_every=options.eval_every,
        log_every=options.log_every,
        tensorboard=options.tensorboard,
        command=options.command,
    )


def _settings(options: TrainOptions) -> Settings:
    base = training_base(options)
    own = {"steps": "--steps", "backbone": "--backbone", "backbone_weights": "--backbone-weights"}
    names = [word.partition("=")[0] for part in options.fields for word in part.split()]
    taken = [name for name in own if getattr(options, name)] + [PROFILE_AXIS]
    for name in names:
        if name in taken:
            raise ValueError(f"--set {name}: use {own.get(name, '--profile')}")
    profile = [f"{PROFILE_AXIS}={options.profile}"] if options.profile else []
    settings = with_field_values(base, [*profile, *options.fields])
    return replace_fields(settings, {"backbone_weights": _weights(options, settings)})


def _weights(options: TrainOptions, settings: Settings) -> str:
    """Return the backbone's weights: by option, else by preset or fields, else ImageNet for the paper's networks."""
    if options.backbone_weights == NO_WEIGHTS:
        return ""
    chosen = options.backbone_weights or settings.train.backbone_weights
    is_published = options.preset == "paper" and settings.model.backbone in BACKBONE_ALIASES.values()
    return chosen or (IMAGENET if is_published else "")


def _processes(options: TrainOptions, *, dry_run: bool) -> tuple[int, bool]:
    """Return the number of processes, and True if each has a GPU."""
    import torch

    there, started = torch.cuda.device_count(), environment.torchrun_size()
    gpus = (int(there > 0) if options.gpus is None else options.gpus) and not options.processes
    wanted = options.gpus or options.processes
    if started:
        if wanted and wanted != started:
            raise ValueError(f"torchrun has started {started} processes; leave --gpus and --processes away, or agree")
        return started, bool(gpus)
    if gpus and options.gpus and options.gpus > there and not dry_run:
        raise ValueError(f"--gpus {options.gpus}: there {'is' if there == 1 else 'are'} {there} here")
    return wanted or 1, bool(gpus)


def _execution(options: TrainOptions, *, gpus: bool) -> Execution:
    by_profile: LossNormalization = "device" if options.profile == "released" else "global"
    return dataclasses.replace(
        options.execution,
        loss_normalization=options.loss_normalization or by_profile,
        channels_last=options.execution.channels_last or not gpus,
    )


def _default_out(name: str, settings: Settings) -> Path:
    """Return `training/PRESET-DATA-BACKBONE`."""
    data = checks.default_study_folder(name, settings.data).name
    return Path("training") / f"{data}-{settings.model.backbone}"


# --- the folder -------------------------------------------------------------------------------------------------------


def _check_training_folder(out: Path) -> None:
    """Raise ValueError for a file, and for a folder of something else than a training."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file: expected a folder; name another with --out")
    if (out / RECORD_FILE).exists() or not out.exists():
        return
    # These are there while the first process begins, or where it was killed then.
    own = (attention_trials.FOLDER, LOCK_FILE, DATA_FILE, f"{DATA_FILE}.tmp", f"{RECORD_FILE}.tmp")
    foreign = sorted(entry.name for entry in out.iterdir() if entry.name not in own)
    if foreign:
        raise ValueError(f"{out} is not empty and no training of this program (it holds {foreign[0]})")


def read_training_record(training: TrainingJob, data: DataDigest | None = None) -> dict[str, Any]:
    """Return what the folder records of its training; {} for a folder that is absent or empty.

    Args:
        training: The training.
        data: Digest of its data; None leaves the data unexamined.

    Raises:
        ValueError: For a folder of something else or of another training, naming the first value that differs.
    """
    out = training.out
    _check_training_folder(out)
    path = out / RECORD_FILE
    if not path.exists():
        return {}
    try:
        record: dict[str, Any] = read_json(path.read_text(encoding="utf-8"))
        check_shape(record, RECORD_SHAPE)
        if record["format"] != FORMAT:
            raise ValueError(f"format: expected {FORMAT!r}")
    except ValueError as error:
        reason = "not text" if isinstance(error, UnicodeDecodeError) else error
        raise ValueError(
            f"{path} is damaged or not of this program ({reason}); name another folder with --out"
        ) from None
    known = record.get("data") or {}
    identities = (record["identity"], json.loads(json.dumps(training.identity)))
    difference = _difference(*(comparable_identity(identity, by_digest=bool(known)) for identity in identities))
    if difference:
        raise ValueError(f"{out} holds a training with {difference}; name another folder with --out")
    if known and data and known.get("digest") != data.digest and has_files(training.settings.data):
        raise ValueError(
            f"the data at {training.settings.data} have changed since the training in {out} began: "
            f"{describe_difference(read_files(out / DATA_FILE), data.files)}; name another folder with --out"
        )
    return record


def comparable_identity(identity: Any, *, by_digest: bool) -> Any:
    """Return an identity as it is compared: without options at their defaults; `by_digest` without the data's path."""
    settings = identity.get("settings") if isinstance(identity, Mapping) else None
    if not isinstance(settings, Mapping):
        return identity
    settings = without_defaults(settings)
    data = settings.get("data")
    if by_digest and isinstance(data, str) and has_files(data):
        settings["data"] = data.partition(":")[0]
    return {**identity, "settings": settings}


def trial_spec(training: TrainingJob) -> dict[str, Any]:
    """Return what the trials of a training's attentions need of it; {} where none of them is a user's."""
    settings = settings_to_dict(training.settings)
    roles = user_roles(slots_of(settings))
    return {"settings": settings, "roles": roles, "variant": "this model"} if roles else {}


def create_training_folder(training: TrainingJob, data: DataDigest) -> None:
    """Create the folder and write the record of its training."""
    training.out.mkdir(parents=True, exist_ok=True)
    if data.files:
        write_files(training.out / DATA_FILE, data.files)
    record = {"format": FORMAT, "identity": training.identity, "manner": training.manner, "created": utc_now()}
    record |= {"data": data.record}
    atomic_write(
        training.out / RECORD_FILE,
        (json.dumps(record | {"command": training.command}, indent=1) + "\n").encode(),
        alone=True,
    )


def _difference(theirs: Any, ours: Any, name: str = "") -> str:
    """Return `batch=8, this is batch=16` for the first value in which two identities differ; "" where there is none."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in [*ours, *(key for key in theirs if key not in ours)]:
            difference = _difference(theirs.get(key), ours.get(key), key)
            if difference:
                return difference
        return ""
    return "" if theirs == ours else f"{name}={theirs}, this is {name}={ours}"
