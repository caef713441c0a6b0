"""One experiment: what is compared, on what, and how it is executed. `plan` says what is due of it, `run` does it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.config.grid import Variant
from bench.results.rows import DEFAULT_TARGET
from bench.study.shard import WHOLE_STUDY, Shard


@dataclass(frozen=True, kw_only=True)
class WorkerTasks:
    """Functions that a worker calls, as `module:callable`.

    Args:
        run: Trains and evaluates one run.
        measure: Measures one variant; "" for no measures.
        tries_attentions: Users' attentions are tried first.
    """

    run: str = "bench.training.loop:train_and_evaluate"
    measure: str = "bench.profiling.variant:measure_variant"
    tries_attentions: bool = True


@dataclass(frozen=True, kw_only=True)
class Study:
    """One experiment and how to execute it.

    Args:
        name: Identifies the experiment in its folder, so that the same command resumes it.
        kind: The command, such as `ablate` or `table 5`.
        variants: What is compared.
        seeds: Runs a variant, with seeds from 0.
        variant_seeds: Seeds of each variant by name, where `seeds` does not say them; {} where it does.
        preset: Name of the preset.
        data: The data set.
        out: The study's folder.
        threads: Threads of a run.
        jobs: Runs at once; with `engine` "ray", 0 means as many as the cluster can take.
        backend: Attention backend.
        gpus: GPUs as CUDA_VISIBLE_DEVICES names them, one for each run; () for none.
        engine: "local", or "ray" for the cluster at `address`.
        address: HOST:PORT, `auto` or `local`.
        shard: The part of the runs to do.
        retry: Statuses whose rows are set aside and done again.
        control: The variant that the report compares the others with; "" leaves the choice to the report.
        margin: Difference of mIoU that counts as none, percent points; None for no such.
        target: Side in pixels at which memory and operations are predicted beside the study's own size.
        rate_split: Split that learning rates were chosen on; "" where they were not chosen.
        skip_oom: Gives a row `skipped` to what is predicted not to fit into memory, and to what needs no less than a
            run that did not fit.
        command: The command line, for the rows.
        notes: Lines for the user, before anything else is said.
        tasks: What a worker calls.
    """

    name: str
    kind: str
    variants: tuple[Variant, ...]
    seeds: int
    preset: str
    data: str
    out: Path
    threads: int = 1
    jobs: int = 1
    backend: str = "reference"
    gpus: tuple[str, ...] = ()
    engine: str = "local"
    address: str = ""
    shard: Shard = WHOLE_STUDY
    retry: tuple[str, ...] = ()
    control: str = ""
    margin: float | None = None
    target: int = DEFAULT_TARGET
    rate_split: str = ""
    skip_oom: bool = False
    command: str = ""
    notes: tuple[str, ...] = ()
    tasks: WorkerTasks = WorkerTasks()
    variant_seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def planned_runs(self) -> Iterator[tuple[Variant, int]]:
        """Yield each run as its variant and seed: seed by seed, and within a seed the variants in their order."""
        seeds = {variant.name: self.variant_seeds.get(variant.name, range(self.seeds)) for variant in self.variants}
        for seed in sorted({seed for own in seeds.values() for seed in own}):
            yield from ((variant, seed) for variant in self.variants if seed in seeds[variant.name])
