"""From what a user typed to a study that can run: every check that needs no training, before anything is written."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import cluster, environment
from bench.config import Settings
from bench.fields import LARGEST, apply, did_you_mean, one_of
from bench.grid import Variant, named, validate
from bench.presets import PRESETS, preset
from bench.shard import parse
from bench.study import RETRYABLE, Study
from unept.data.sample import SPLITS

ENGINES = ("local", "ray")
Maker = Callable[[Settings], tuple[Variant, ...]]


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


def study_of(kind: str, grid: str, make: Maker, request: Request, *, dry_run: bool = False) -> Study:
    """The study that `request` asks of the variants that `make` gives for the base settings.

    `kind` and `grid` name it, with whatever else sets its runs apart, so that the same command finds it again. With
    `dry_run` the pictures of a data set are not read. Raises ValueError for every mistake that can be found by now.
    """
    check_options(request)
    base = preset(request.preset, request.data)
    changes: dict[str, object] = {name: getattr(request, name) for name in ("steps", "split", "backbone_weights")}
    base = apply(base, {name: value for name, value in changes.items() if value})
    base = apply(base, {"classes": len(class_names(base, given=bool(request.data)))})
    variants = make(base)
    check_variants(variants)
    if not dry_run:
        check_data_of(variants)
    backend = backend_of(request.backend)
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
        out=Path(request.out).expanduser() if request.out else default_out(request.preset, base.data),
        threads=request.threads,
        backend=backend,
        jobs=request.jobs or (default_jobs(request.threads, gpus) if request.engine == "local" else 0),
        engine=request.engine,
        address=request.address or "auto",
        gpus=gpus,
        shard=parse(request.shard),
        retry=statuses(request.retry),
        control=request.control,
        skip_oom=request.skip_oom,
        command=request.command,
    )


def check_options(request: Request) -> None:
    """Ranges and choices. Raises ValueError."""
    for name, least in (("seeds", 1), ("steps", 0), ("jobs", 0), ("threads", 1)):
        if getattr(request, name) < least:
            raise ValueError(f"--{name} {getattr(request, name)}: expected at least {max(least, 1)}")
        if getattr(request, name) > LARGEST:
            raise ValueError(f"--{name} {getattr(request, name)}: expected at most {LARGEST}")
    if request.preset not in PRESETS:
        raise ValueError(
            f"--preset {request.preset}: expected {one_of(PRESETS)}{did_you_mean(request.preset, PRESETS)}"
        )
    if request.split and request.split not in SPLITS:
        raise ValueError(f"--split {request.split}: expected {one_of(SPLITS)}{did_you_mean(request.split, SPLITS)}")
    parse(request.shard)
    check_engine(request.engine, request.address)
    if request.skip_oom and request.engine == "ray":
        raise ValueError("--skip-oom: the memory of a cluster's nodes is not known; expected --engine local")
    for status in statuses(request.retry):
        if status not in RETRYABLE:
            raise ValueError(f"--retry {status}: expected {one_of(RETRYABLE)}{did_you_mean(status, RETRYABLE)}")


def check_engine(engine: str, address: str) -> None:
    """What carries the runs out. Raises ValueError."""
    if engine not in ENGINES:
        raise ValueError(f"--engine {engine}: expected {one_of(ENGINES)}{did_you_mean(engine, ENGINES)}")
    if engine == "ray":
        cluster.check(address)
    elif address:
        raise ValueError(f"--address {address}: only with --engine ray")


def statuses(words: str) -> tuple[str, ...]:
    """The statuses in `failed,oom`; none in the empty text."""
    return tuple(word.strip() for word in words.split(",")) if words else ()


def class_names(base: Settings, *, given: bool) -> tuple[str, ...]:
    """The classes of the data set, from its files' names alone; `given` tells whether the user named the data."""
    from unept.data import open_data

    try:
        return open_data(base.data, "train", base.scenes).classes
    except ValueError as error:
        hint = "" if given else "; the preset looks there, name another place with --data"
        raise ValueError(f"{error}{hint}") from None


def check_variants(variants: Sequence[Variant]) -> None:
    """Build each variant's model without weights in memory, so that what cannot exist is refused before a day is spent.

    A user's own module that fails in another way than by ValueError is left to its run, which then has a row.
    """
    import torch

    import unept

    for variant in variants:
        settings = variant.settings
        try:
            validate(settings)
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                unept.build(settings.model, weights=settings.train.backbone_weights)
        except ValueError as error:
            raise ValueError(named(variant.name, error)) from None
        except Exception:
            continue


def check_data_of(variants: Sequence[Variant]) -> None:
    """Read the data set once for each protocol that the variants have. Raises ValueError that names the file."""
    from unept.data import check_data

    for variant in variants:
        settings = variant.settings
        splits = tuple(dict.fromkeys(("train", settings.evaluation.split)))
        check_data(settings.data, settings.scenes, splits=splits, classes=settings.model.classes)


def backend_of(name: str) -> str:
    """The attention backend that `name` stands for on this machine; compiled where that is due. Raises ValueError."""
    import torch

    from unept.ops import resolve

    try:
        return resolve(name, device="cuda" if torch.cuda.is_available() else "cpu").name
    except ValueError as error:
        raise ValueError(f"--backend {name}: {error}") from None


def default_out(preset_name: str, data: str) -> Path:
    """`study/PRESET-DATA`: commands with the same preset and data share a folder, and with it the runs they share."""
    kind, _, path = data.partition(":")
    name = Path(path.partition("?")[0]).name if path else kind
    return Path("study") / f"{preset_name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or kind}"


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that torch finds here, each as CUDA_VISIBLE_DEVICES names it; empty where there is none."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if given is None else given.split(",")
    return tuple(name.strip() for name in names[:count])


def default_jobs(threads: int, gpus: Sequence[str]) -> int:
    """Runs side by side: one on each GPU, and where there are none as many as the processors can feed."""
    return len(gpus) or max(1, environment.cores() // threads)
