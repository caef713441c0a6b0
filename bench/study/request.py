"""From the options of a command to a Study: every check that needs no training, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench import environment
from bench.config.checks import check_data_sets, check_variants, default_study_folder, resolve_backend, visible_gpus
from bench.config.grid import Variant, merge_equal
from bench.config.settings import Settings
from bench.study.options import StudyRequest, parse_statuses, study_settings
from bench.study.shard import parse_shard
from bench.study.study import Study
from unept.data.scene_spec import recorded_spec

VariantFactory = Callable[[Settings], tuple[Variant, ...]]


def build_study(kind: str, grid: str, make: VariantFactory, request: StudyRequest, *, dry_run: bool = False) -> Study:
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
    base = study_settings(request)
    variants, equal = merge_equal(make(base))
    check_variants(variants)
    check_data_sets(variants, read_files=not dry_run)
    backend = resolve_backend(request.backend)
    changes = {name: getattr(request, name) for name in ("steps", "split", "backbone_weights")}
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
        data=recorded_spec(base.data),
        out=request.out or default_study_folder(request.preset, base.data),
        threads=request.threads,
        backend=backend,
        jobs=request.jobs or (default_jobs(request.threads, gpus) if request.engine == "local" else 0),
        engine=request.engine,
        address=request.address or "auto",
        gpus=gpus,
        shard=parse_shard(request.shard),
        retry=parse_statuses(request.retry),
        control=equal.get(request.control, request.control),
        margin=request.margin,
        target=request.target,
        rate_split=request.rate_split,
        notes=tuple(f"{name} has the settings of {kept}: it is run once, as {kept}" for name, kept in equal.items()),
        skip_oom=request.skip_oom,
        command=request.command,
    )


def default_jobs(threads: int, gpus: Sequence[str]) -> int:
    """Return the number of runs side by side: one on each GPU, else as many as the processors can feed."""
    return len(gpus) or max(1, environment.usable_cores() // threads)
