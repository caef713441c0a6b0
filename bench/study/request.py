"""From the options of a command to a Study: every check that needs no training, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import environment
from bench.config.checks import (
    check_data_sets,
    check_variants,
    default_study_folder,
    read_class_names,
    resolve_backend,
    visible_gpus,
)
from bench.config.fields import LARGEST_INTEGER, did_you_mean, one_of, replace_fields
from bench.config.grid import Variant
from bench.config.presets import PRESETS, preset
from bench.config.settings import Settings
from bench.launchers import ray_cluster
from bench.study.shard import parse_shard
from bench.study.study import RETRYABLE, Study
from unept.data.sample import SPLITS

ENGINES = ("local", "ray")
VariantFactory = Callable[[Settings], tuple[Variant, ...]]


@dataclass(frozen=True, kw_only=True)
class Request:
    """The options that every study has. 0 and "" stand for the default, which depends on preset, data and machine."""

    seeds: int = 5
    preset: str = "quick"
    data: str = ""
    steps: int = 0
    split: str = ""
    backbone_weights: str = ""
    out: str = ""
    jobs: int = 0
    threads: int = 1
    backend: str = "auto"
    engine: str = "local"
    address: str = ""
    shard: str = ""
    retry: str = ""
    control: str = ""
    skip_oom: bool = False
    command: str = ""


def build_study(kind: str, grid: str, make: VariantFactory, request: Request, *, dry_run: bool = False) -> Study:
    """Return the study that `request` asks for.

    Args:
        kind: The command, such as `ablate`; first part of the study's name.
        grid: What sets its runs apart, so that the same command resumes it; second part of the name.
        make: Gives the variants for the base settings.
        request: The options.
        dry_run: True to leave the images of the data set unread.

    Raises:
        ValueError: In one line, for every mistake that can be detected without training.
    """
    check_options(request)
    base = preset(request.preset, request.data)
    changes: dict[str, object] = {name: getattr(request, name) for name in ("steps", "split", "backbone_weights")}
    base = replace_fields(base, {name: value for name, value in changes.items() if value})
    base = replace_fields(base, {"classes": len(read_class_names(base, given=bool(request.data)))})
    variants = make(base)
    check_variants(variants)
    if not dry_run:
        check_data_sets(variants)
    backend = resolve_backend(request.backend)
    changes["threads"] = request.threads if request.threads > 1 else 0
    changes["backend"] = request.backend if request.backend != "auto" else ""
    gpus = visible_gpus()
    words = [kind, grid, *(f"{name}={value}" for name, value in changes.items() if value)]
    return Study(
        name=" ".join(filter(None, words)),
        kind=kind,
        variants=variants,
        seeds=request.seeds,
        preset=request.preset,
        data=base.data,
        out=Path(request.out).expanduser() if request.out else default_study_folder(request.preset, base.data),
        threads=request.threads,
        backend=backend,
        jobs=request.jobs or (default_jobs(request.threads, gpus) if request.engine == "local" else 0),
        engine=request.engine,
        address=request.address or "auto",
        gpus=gpus,
        shard=parse_shard(request.shard),
        retry=parse_statuses(request.retry),
        control=request.control,
        skip_oom=request.skip_oom,
        command=request.command,
    )


def check_options(request: Request) -> None:
    """Check ranges and choices of the options.

    Raises:
        ValueError: Names the option.
    """
    for name, least in (("seeds", 1), ("steps", 0), ("jobs", 0), ("threads", 1)):
        if getattr(request, name) < least:
            raise ValueError(f"--{name} {getattr(request, name)}: expected at least {max(least, 1)}")
        if getattr(request, name) > LARGEST_INTEGER:
            raise ValueError(f"--{name} {getattr(request, name)}: expected at most {LARGEST_INTEGER}")
    if request.preset not in PRESETS:
        raise ValueError(
            f"--preset {request.preset}: expected {one_of(PRESETS)}{did_you_mean(request.preset, PRESETS)}"
        )
    if request.split and request.split not in SPLITS:
        raise ValueError(f"--split {request.split}: expected {one_of(SPLITS)}{did_you_mean(request.split, SPLITS)}")
    parse_shard(request.shard)
    check_engine(request.engine, request.address)
    if request.skip_oom and request.engine == "ray":
        raise ValueError("--skip-oom: the memory of a cluster's nodes is not known; expected --engine local")
    for status in parse_statuses(request.retry):
        if status not in RETRYABLE:
            raise ValueError(f"--retry {status}: expected {one_of(RETRYABLE)}{did_you_mean(status, RETRYABLE)}")


def check_engine(engine: str, address: str) -> None:
    """Check the options that choose what executes the runs.

    Raises:
        ValueError: Names the option.
    """
    if engine not in ENGINES:
        raise ValueError(f"--engine {engine}: expected {one_of(ENGINES)}{did_you_mean(engine, ENGINES)}")
    if engine == "ray":
        ray_cluster.check_ray(address)
    elif address:
        raise ValueError(f"--address {address}: only with --engine ray")


def parse_statuses(words: str) -> tuple[str, ...]:
    """Return the statuses in `failed,oom`; () for ""."""
    return tuple(word.strip() for word in words.split(",")) if words else ()


def default_jobs(threads: int, gpus: Sequence[str]) -> int:
    """Return the number of runs side by side: one on each GPU, else as many as the processors can feed."""
    return len(gpus) or max(1, environment.usable_cores() // threads)
