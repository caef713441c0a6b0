"""The options that every study has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.checks import read_class_names
from bench.config.fields import did_you_mean, one_of, replace_fields
from bench.config.option_fields import check_options, option
from bench.config.presets import PRESETS, preset
from bench.config.settings import Settings
from bench.config.shared_options import backend_option, data_option
from bench.results.rows import DEFAULT_TARGET, STATUSES
from bench.study.shard import parse_shard
from unept.data.sample import SPLITS

ENGINES = ("local", "ray")
RETRYABLE = tuple(status for status in STATUSES if status != "ok")
RECIPE, EXECUTION, SHARING = "What is trained", "How it is carried out", "Several machines"


@dataclass(frozen=True, kw_only=True)
class StudyRequest:
    """The options of a study. 0, "" and None stand for a default that depends on preset, data and machine."""

    seeds: int = option(5, help="Trainings of each variant, with seeds 0, 1, ...", metavar="N", group=RECIPE, least=1)
    preset: str = option(
        "quick", help="quick, small or paper.", metavar="NAME", group=RECIPE, choices=PRESETS, completes="choices"
    )
    data: str = data_option(RECIPE)
    steps: int = option(0, help="Training steps.", metavar="N", group=RECIPE, default_text="the preset's", least=0)
    split: str = option(
        "",
        help="Split that is scored: val, test or train.",
        metavar="NAME",
        group=RECIPE,
        default_text="the preset's",
        choices=SPLITS,
        completes="choices",
    )
    backbone_weights: str = option(
        "",
        help="File of pretrained backbone weights.",
        metavar="FILE",
        group=RECIPE,
        default_text="the preset's",
        completes="files",
    )
    control: str = option(
        "",
        help="Compare the others with this variant; none: with the model without self-attention, a row of its own.",
        metavar="VARIANT",
        group=RECIPE,
    )
    margin: float | None = option(
        None,
        help="Difference of mIoU that counts as none: the report says which variants are the same within it.",
        metavar="POINTS",
        group=RECIPE,
        least=0.01,
    )
    target: int = option(
        DEFAULT_TARGET,
        help="Predict memory and operations at this image size too.",
        metavar="PIXELS",
        group=RECIPE,
        default_text="480, the paper's",
        least=16,
        most=16384,
    )
    out: Path | None = option(
        None,
        help="The study's folder.",
        metavar="FOLDER",
        group=EXECUTION,
        default_text="study/PRESET-DATA",
        completes="files",
        writes="folder",
    )
    jobs: int = option(
        0,
        help="Trainings side by side.",
        metavar="N",
        group=EXECUTION,
        default_text="one a GPU, else as many as the processors allow",
        least=0,
    )
    threads: int = option(
        1, help="Threads of each training; results depend on it.", metavar="N", group=EXECUTION, least=1
    )
    backend: str = backend_option(EXECUTION)
    retry: str = option(
        "",
        help="Run again what ended with one of these statuses, e.g. failed,oom.",
        metavar="STATUSES",
        group=EXECUTION,
        completes="statuses",
    )
    skip_oom: bool = option(
        False,
        help="Skip runs that are predicted not to fit into memory, or need more than a run that did not; their rows "
        "say `skipped`.",
        group=EXECUTION,
    )
    engine: str = option(
        "local",
        help="local, or ray: the runs are tasks of a Ray cluster.",
        metavar="NAME",
        group=SHARING,
        choices=ENGINES,
        completes="choices",
    )
    address: str = option(
        "",
        help="The Ray cluster: auto (this machine's), local (a new one) or HOST:PORT.",
        metavar="ADDRESS",
        group=SHARING,
        default_text="auto",
    )
    shard: str = option(
        "",
        help="Only the runs I, I+N, ... of the list: one of N commands that share a folder.",
        metavar="I/N",
        group=SHARING,
        default_text="every run",
    )
    command: str = ""
    rate_split: str = ""  # that learning rates were chosen on, where they were


def study_settings(request: StudyRequest) -> Settings:
    """Return the settings that variants start from: the preset with the request's steps, split, weights and classes.

    Reads the names of the data set's files. Raises ValueError for options out of range and data that are not there.
    """
    check_study_options(request)
    base = preset(request.preset, request.data)
    changes: dict[str, object] = {name: getattr(request, name) for name in ("steps", "split", "backbone_weights")}
    base = replace_fields(base, {name: value for name, value in changes.items() if value})
    return replace_fields(base, {"classes": len(read_class_names(base, named_by_user=bool(request.data)))})


def check_study_options(request: StudyRequest) -> None:
    """Check ranges, choices and what goes together. Raises ValueError."""
    check_options(request)
    parse_shard(request.shard)
    if request.engine == "ray":
        from bench.launchers import ray_cluster

        ray_cluster.check_ray(request.address)
    elif request.address:
        raise ValueError(f"--address {request.address}: only with --engine ray")
    if request.skip_oom and request.engine == "ray":
        raise ValueError("--skip-oom: the memory of a cluster's nodes is not known; expected --engine local")
    for status in parse_statuses(request.retry):
        if status not in RETRYABLE:
            raise ValueError(f"--retry {status}: expected {one_of(RETRYABLE)}{did_you_mean(status, RETRYABLE)}")


def parse_statuses(words: str) -> tuple[str, ...]:
    """Return the statuses in `failed,oom`; () for the empty text."""
    return tuple(word.strip() for word in words.split(",")) if words else ()
