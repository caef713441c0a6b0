"""The command `unept-bench`: one thin function per verb.

A user's mistake is one line on standard error and exit code 2.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from importlib.metadata import PackageNotFoundError, version
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from bench.evaluation.predict import Predictor
    from bench.results.rows import Row
    from bench.study.request import Request, VariantFactory
    from bench.study.study import Study, WorkerTasks

NAME = "unept-bench"
INTERRUPTED = 130
KERNELS = Path("study/kernels")
LONGEST_NAME = 100  # characters of a report's name
_NO_PLACE = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of whichever click this typer brings


class InOrder(TyperCommand):
    """Words after `--grid AXIS` are axes too, and axes keep the order they are given in."""

    option = "--grid"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the option before every word that follows one of its own, then parse as usual."""
        spread: list[str] = []
        inside = False
        for word in args:
            is_one_more = inside and not word.startswith("-") and spread[-1] != self.option
            spread += [self.option, word] if is_one_more else [word]
            if word.startswith("-"):
                inside = word.partition("=")[0] == self.option
        return super().parse_args(ctx, spread)


class Setting(InOrder):
    """Words after `--set NAME=VALUE` are settings too."""

    option = "--set"


def whole(text: str | int) -> int:
    """An option's whole number; the error names what was typed."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no whole number") from None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

data_app = typer.Typer(help="Look after data sets.", rich_markup_mode=None)
app.add_typer(data_app, name="data")

Seeds = Annotated[
    int,
    typer.Option("--seeds", parser=whole, metavar="INTEGER", help="Trainings of each variant, with seeds 0, 1, ..."),
]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="quick, small or paper.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        metavar="DATA",
        help="scenes, or folder:, ade20k:, cityscapes: or pascal_context: and a path; default: the preset's.",
    ),
]
Steps = Annotated[
    int, typer.Option("--steps", parser=whole, metavar="INTEGER", help="Training steps; 0: the preset's.")
]
Split = Annotated[
    str, typer.Option("--split", metavar="NAME", help="What is scored: val, test or train; default: the preset's.")
]
Weights = Annotated[
    str, typer.Option("--backbone-weights", metavar="FILE", help="File of pretrained backbone weights.")
]
Out = Annotated[str, typer.Option("--out", metavar="FOLDER", help="The study's folder; default: study/PRESET-DATA.")]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs", parser=whole, metavar="INTEGER", help="Trainings side by side; 0: as many as the processors allow."
    ),
]
Threads = Annotated[
    int,
    typer.Option("--threads", parser=whole, metavar="INTEGER", help="Threads of each training; results depend on it."),
]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="NAME",
        help="What computes deformable attention: reference (plain PyTorch), native (compiled), cuda, or auto.",
    ),
]
Engine = Annotated[
    str, typer.Option("--engine", metavar="NAME", help="local, or ray: the runs as tasks of a Ray cluster.")
]
Address = Annotated[
    str,
    typer.Option(
        "--address", metavar="WHERE", help="Of the Ray cluster: auto (this machine's), local (a new one), HOST:PORT."
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        "--shard", metavar="I/N", help="Only the runs I, I+N, ... of the list; one of N commands over one folder."
    ),
]
Retry = Annotated[
    str, typer.Option("--retry", metavar="STATUSES", help="Do runs of these statuses again, e.g. failed,oom.")
]
Mode = Annotated[
    str, typer.Option("--mode", metavar="NAME", help="slide (windows) or whole (in one piece); default: slide.")
]
Window = Annotated[
    int | None,
    typer.Option("--window", parser=whole, metavar="PIXELS", help="Of sliding; default: the crop trained on."),
]
Stride = Annotated[
    int | None, typer.Option("--stride", parser=whole, metavar="PIXELS", help="Of sliding; default: a third of it.")
]
Scales = Annotated[str, typer.Option("--scales", metavar="RATIOS", help="Sizes to average over, as in 0.5,1,1.5.")]
Flip = Annotated[bool | None, typer.Option("--flip/--no-flip", help="Average with the mirror image too.")]
Base = Annotated[
    str,
    typer.Option(
        "--base", metavar="LONGxSHORT", help="At ratio 1, or own: each picture's; default: of the data, or as trained."
    ),
]
Device = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1 ...")]
OwnModules = Annotated[
    bool, typer.Option("--own-modules", help="Import the attention that a checkpoint names as module:Class.")
]
Control = Annotated[
    str,
    typer.Option(
        "--control",
        metavar="VARIANT",
        help="Compare the others with this one; none: with the model without self-attention, a row of its own.",
    ),
]
SkipOom = Annotated[
    bool,
    typer.Option(
        "--skip-oom",
        help="Leave out what is predicted not to fit into memory, or asks for more than a run that did not: "
        "its row says `skipped`.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which runs are due and how long they may take.")]

# What every command that does a study takes, with its default: the fields of bench.study.request.Request.
STUDY: dict[str, tuple[Any, Any]] = {
    "seeds": (Seeds, 5),
    "preset": (Preset, "quick"),
    "data": (Data, ""),
    "steps": (Steps, 0),
    "split": (Split, ""),
    "backbone_weights": (Weights, ""),
    "out": (Out, ""),
    "jobs": (Jobs, 0),
    "threads": (Threads, 1),
    "backend": (Backend, "auto"),
    "engine": (Engine, "local"),
    "address": (Address, ""),
    "shard": (Shard, ""),
    "retry": (Retry, ""),
    "control": (Control, ""),
    "skip_oom": (SkipOom, False),
}


def of_a_study(command: Callable[..., None]) -> Callable[..., None]:
    """`command`, with the options in STUDY after its own; it is given them as `options`, by name."""
    hints = get_type_hints(command, include_extras=True)
    own = [parameter for parameter in signature(command).parameters.values() if parameter.name != "options"]
    own = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    more = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=kind, default=default)
        for name, (kind, default) in STUDY.items()
    ]

    @wraps(command)
    def called(**given: Any) -> None:
        options = {name: given.pop(name) for name in STUDY}
        command(**given, options=options)

    called.__signature__ = Signature([*own, *more])  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *more)}
    return called


@app.callback(invoke_without_command=True)
def _options(
    ctx: typer.Context, show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Train, measure and compare attention for semantic segmentation."""
    if show_version:
        print(f"{NAME} {_version()}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command(cls=InOrder)
@of_a_study
def ablate(
    ctx: typer.Context,
    options: dict[str, Any],
    grid: Annotated[
        list[str] | None, typer.Option("--grid", metavar="AXES", help="N=4,16,64 L=1,3 heads=2,4 ...")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Train every combination of the axes and write the table.

    For instance --grid N=4,16,64 L=1,3: each combination is trained with several seeds. Any field is an axis.
    """
    from bench.config.grid import expand_axes, parse_axes
    from experiments.tables.baselines import NONE, with_control

    axes = parse_axes(grid or [])
    for axis in axes:
        if axis.name in ("steps", "split", "backbone_weights") and options[axis.name]:
            raise ValueError(f"{axis.name} is both an axis and an option (--{axis.name.replace('_', '-')}): give one")
    request = _request(ctx, options)
    make = with_control(lambda base: expand_axes(axes, base), request.control, [axis.name for axis in axes])
    name = " ".join([*map(str, axes), *["none"] * (request.control == NONE)])
    _study("ablate", name, make, request, ctx, dry_run)


@app.command(cls=Setting)
@of_a_study
def table(
    ctx: typer.Context,
    options: dict[str, Any],
    number: Annotated[
        int,
        typer.Argument(parser=whole, metavar="NUMBER", help="5 (components), 6 (N and L), 7 (rivals), 8 (drop-ins)."),
    ],
    row: Annotated[list[str] | None, typer.Option("--row", metavar="NAME", help="Only these rows of it.")] = None,
    rates: Annotated[
        str,
        typer.Option(
            "--rates",
            metavar="RATES",
            help="Choose each row's learning rate from these on the validation split, then score the test split; "
            "table 8 of quick does so with once, twice and four times the recipe's, unless told none.",
        ),
    ] = "",
    fields: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE ...", help="Of all rows, any field: size=128 probes=0."),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Run the variants of one of the paper's tables."""
    from experiments.tables import lr_sweep as choice
    from experiments.tables.baselines import NONE, with_control
    from experiments.tables.overrides import with_overrides
    from experiments.tables.registry import only_rows, trained_table

    found = trained_table(number)
    control = options["control"] or (found.control if not row or found.control in row else "")
    request = _request(ctx, options | {"control": control})
    make = with_overrides(with_control(only_rows(found.variants, row or ()), request.control), fields or ())
    name = [*(row or ()), *[NONE] * (request.control == NONE and number in (6, 7)), *(fields or ())]
    tried = choice.rates_to_try(rates, table=number, preset_name=request.preset)
    if tried:
        name.append(f"rates={choice.rates_text(tried)}")
        rows = _tried(f"table {number} {' '.join(name)}", choice.candidate_variants(make, tried), request, ctx, dry_run)
        if rows is None:
            return
        make = choice.with_best_rates(make, rows, tried)
    after = _count_networks if number == 7 else None
    _study(f"table {number}", " ".join(name), make, request, ctx, dry_run, after)


@app.command(cls=Setting)
def train(
    ctx: typer.Context,
    data: Data = "",
    preset: Annotated[str, typer.Option("--preset", metavar="NAME", help="quick, small or paper.")] = "paper",
    profile: Annotated[
        str, typer.Option("--profile", metavar="NAME", help="paper: the text; released: its authors' code.")
    ] = "",
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="NAME", help="deit, r50, or any; default: the preset's.")
    ] = "",
    fields: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE ...", help="Any field: batch=8 N=4 heads=2.")
    ] = None,
    steps: Steps = 0,
    seed: Annotated[int, typer.Option("--seed", parser=whole, metavar="INTEGER", help="Of weights and samples.")] = 0,
    backbone_weights: Annotated[
        str,
        typer.Option(
            "--backbone-weights",
            metavar="FILE",
            help="A file, imagenet (timm's hub), none; default: the preset's.",
        ),
    ] = "",
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Default: training/PRESET-DATA-BACKBONE.")] = "",
    gpus: Annotated[
        int, typer.Option("--gpus", parser=whole, metavar="INTEGER", help="A process each; default: 1 if there is any.")
    ] = -1,
    processes: Annotated[
        int, typer.Option("--processes", parser=whole, metavar="INTEGER", help="Processes on the CPU; default: 1.")
    ] = 0,
    threads: Annotated[
        int, typer.Option("--threads", parser=whole, metavar="INTEGER", help="Of each process; default: its share.")
    ] = 0,
    backend: Backend = "auto",
    precision: Annotated[str, typer.Option("--precision", metavar="NAME", help="fp32, or bf16 by autocast.")] = "fp32",
    accumulation: Annotated[
        int, typer.Option("--accumulation", parser=whole, metavar="INTEGER", help="Pieces of a process's batch.")
    ] = 1,
    channels_last: Annotated[bool, typer.Option("--channels-last", help="Convolutions with channels last.")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Train with torch.compile.")] = False,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Recompute each block's activations.")] = False,
    workers: Annotated[
        int, typer.Option("--workers", parser=whole, metavar="INTEGER", help="Loaders of each process; 4 beside a GPU.")
    ] = -1,
    denominators: Annotated[
        str,
        typer.Option(
            "--denominators", metavar="NAME", help="Of the loss: global, or of each device; default: the profile's."
        ),
    ] = "",
    eval_every: Annotated[
        int, typer.Option("--eval-every", parser=whole, metavar="INTEGER", help="Steps between evaluations.")
    ] = 10_000,
    log_every: Annotated[
        int, typer.Option("--log-every", parser=whole, metavar="INTEGER", help="Steps between lines of the log.")
    ] = 50,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say schedule, memory and time.")] = False,
) -> None:
    """Train one model, on one device or many, and save it with its scores. The same command continues.

    For instance --data ade20k:PATH --backbone deit --profile paper --gpus 8, or the same without --gpus under torchrun.
    """
    from bench import environment
    from bench.profiling import training_estimate as dry
    from bench.training import session
    from bench.training.job import Asked, build_training_job
    from bench.training.loop import TrainingStopped
    from bench.training.spawn import TrainingFailed

    words, _ = ctx.obj
    asked = Asked(
        data=data,
        preset=preset,
        profile=profile,
        backbone=backbone,
        fields=fields or (),
        steps=steps,
        seed=seed,
        backbone_weights=backbone_weights,
        out=out,
        gpus=gpus,
        processes=processes,
        threads=threads,
        backend=backend,
        precision=precision,
        accumulation=accumulation,
        channels_last=channels_last,
        compile=compiled,
        checkpointing=checkpointing,
        workers=workers,
        denominators=denominators,
        eval_every=eval_every,
        log_every=log_every,
        tensorboard=tensorboard,
        command=shlex.join([NAME, *words]),
    )
    training = build_training_job(asked, dry_run=dry_run)
    if dry_run:
        print("\n".join(dry.training_estimate_lines(training)))
        return
    try:
        result = session.run_training(training)
    except TrainingStopped as stop:
        if environment.is_main_process():
            _say(f"{NAME}: stopped after step {stop} of {training.settings.train.steps}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    except TrainingFailed as failure:
        _say(f"{NAME}: {failure}; the same command continues from the last checkpoint")
        raise typer.Exit(1) from None
    if environment.is_main_process():
        print("\n".join(session.training_summary(training, result)))


@app.command()
def complexity(
    ctx: typer.Context,
    size: Annotated[str, typer.Option("--size", metavar="SIZE", help="480, or HEIGHTxWIDTH as in 1024x2048.")] = "480",
    model: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="MODEL", help="Count this instead: timm:NAME, or module:callable of your own."),
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option("--network", metavar="NAME", help="Only these of the paper's networks.")
    ] = None,
    timed: Annotated[bool, typer.Option("--time", help="Also time inference and a training step, in turns.")] = False,
    batch: Annotated[int, typer.Option("--batch", parser=whole, metavar="INTEGER", help="Images of a timed step.")] = 1,
    rounds: Annotated[int, typer.Option("--rounds", parser=whole, metavar="INTEGER", help="Times each is timed.")] = 5,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Of the report.")] = "study/complexity",
) -> None:
    """Count parameters and operations of the networks of Table 7, or of any model: no weights, no memory.

    For instance --model timm:resnet101 --size 480, or --network CCNet --network Ours --time.
    """
    from bench.profiling.complexity import parse_size
    from experiments.tables.published_networks import add_network_times, count_networks, select_networks
    from reports import writable_folder

    for name, value in (("batch", batch), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"--{name} {value}: expected at least 1")
    if model and network:
        raise ValueError("--model and --network: give one of them")
    pixels = parse_size(size)
    found = select_networks(pixels, models=model or (), names=network or ())
    folder = writable_folder(Path(out).expanduser())
    records = count_networks(found)
    timing = add_network_times(found, records, pixels, batch=batch, rounds=rounds, say=_say) if timed else None
    words, _ = ctx.obj
    _write_complexity(records, folder, shlex.join([NAME, *words]), timing)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Studies, such as study/quick-scenes.")],
    experiment: Annotated[str, typer.Option("--experiment", help="Only this one of the folders' experiments.")] = "",
    control: Annotated[str, typer.Option("--control", help="Compare the others with this variant.")] = "",
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Without pictures of the data, whose licence may forbid them.")
    ] = False,
) -> None:
    """Make a study's tables and reports again, from its rows.

    Rows of one experiment in several folders are read together, and the first of them takes the report.
    """
    from bench.results.rows import KINDS
    from bench.results.store import Store

    stores = [Store(folder) for folder in folders]
    names = [experiment] if experiment else [*dict.fromkeys(name for store in stores for name in store.experiments())]
    for store in stores:
        for problem in (problem for kind in KINDS for problem in store.read(kind).problems):
            print(problem)
        store.write_tables()
    for name in names:
        _write_report(folders, name, control, with_pictures=not no_pictures)


@app.command()
def power(
    folder: Annotated[Path | None, typer.Argument(help="Take the spread of seeds from this study.")] = None,
    difference: Annotated[float, typer.Option("--difference", help="To be shown, in percent points of mIoU.")] = 1.0,
    sd: Annotated[float | None, typer.Option("--sd", help="Standard deviation of seeds, in percent points.")] = None,
    comparisons: Annotated[int, typer.Option("--comparisons", help="Variants compared with the control.")] = 1,
    experiment: Annotated[str, typer.Option("--experiment", help="Only this one of the folder's experiments.")] = "",
    control: Annotated[str, typer.Option("--control", help="Compare with this variant.")] = "",
) -> None:
    """Say how many seeds a difference needs, and what a number of seeds can show.

    For instance power --difference 0.5 --sd 0.3, or power study/quick-scenes --difference 2.
    """
    if (folder is None) == (sd is None):
        raise ValueError("power: expected --sd, or the folder of a study to take the spread from, and not both")
    if folder is None:
        from bench.stats.power import plan_seeds, seed_plan_lines

        print("\n".join(seed_plan_lines(plan_seeds(difference, sd or 0.0, family=comparisons))))
        return
    from bench.results.store import Store
    from reports import read_study
    from reports.study import terminal

    for name in [experiment] if experiment else [*Store(folder).experiments()]:
        print(f"{name}:")
        print("\n".join(f"  {line}" for line in terminal.power_lines(read_study([folder], name, control), difference)))


@app.command()
def step(
    cases: Annotated[
        list[str] | None,
        typer.Argument(metavar="CASE...", help="A preset, and fields: small, 'paper backbone=resnet50'."),
    ] = None,
    backends: Annotated[str, typer.Option("--backends", help="To compare; the first is the measure.")] = "",
    images: Annotated[int, typer.Option("--images", help="In a batch; 0: as the preset's, one of 480 pixels.")] = 0,
    rounds: Annotated[int, typer.Option("--rounds", help="Repetitions, after one that warms up.")] = 5,
    threads: Annotated[int, typer.Option("--threads", help="0: every processor.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the page there too.")] = None,
) -> None:
    """Time a training step of UN-EPT by its parts: the compiled attention kernel against plain PyTorch.

    Without a case: quick, small, and paper with both backbones.
    """
    from bench.environment import raise_malloc_thresholds
    from bench.profiling import step_breakdown as steps
    from reports.pages import step_breakdown as pages

    told = steps.BreakdownProtocol(
        cases=tuple(steps.parse_case(words) for words in cases or steps.DEFAULT_CASES),
        backends=tuple(filter(None, backends.split(","))) or steps.default_backends(),
        images=images,
        rounds=rounds,
        threads=threads,
        malloc=raise_malloc_thresholds(),
    )
    page = pages.step_breakdown_markdown(steps.time_cases(told, say=print), steps.breakdown_setting_lines(told))
    print(page)
    if out is not None:
        out.write_text(page, encoding="utf-8")


@app.command(cls=Setting)
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One of our names, or module:Class of your own.")],
    slot: Annotated[
        str, typer.Option("--slot", metavar="SLOT", help="encoder_self, decoder_self or decoder_cross.")
    ] = "encoder_self",
    parameters: Annotated[
        list[str] | None, typer.Option("--set", metavar="PARAMETER=VALUE ...", help="Of the class: window=7 hashes=2.")
    ] = None,
) -> None:
    """Check an attention in under a minute: what it must hold, what it costs, what it sees.

    For instance check mypackage.mymodule:MyAttention. The exit code is 1 if a check fails.
    """
    from bench import attention_layer as checks
    from bench.environment import raise_malloc_thresholds
    from experiments.tables.baselines import timed_baselines

    began = time.perf_counter()
    raise_malloc_thresholds()
    subject = checks.attention_from_options(slot, name, parameters or [])
    beside = [checks.attention_from_options(slot, other, []) for other in timed_baselines(slot) if other != name]
    lines = checks.check_attention(subject, beside=beside, say=lambda line: print(line, flush=True))
    print(checks.summary_line(lines, time.perf_counter() - began))
    if any(line.status == "FAIL" for line in lines):
        raise typer.Exit(1)


@app.command()
def kernels(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the report goes.")] = KERNELS,
    threads: Annotated[
        int, typer.Option("--threads", parser=whole, metavar="INTEGER", help="Threads of every side.")
    ] = 2,
    repeats: Annotated[int, typer.Option("--repeats", parser=whole, metavar="INTEGER", help="Rounds, at least.")] = 7,
    shapes: Annotated[str, typer.Option("--shapes", metavar="NAMES", help="Only these, e.g. small,r50-encoder.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A tiny shape and two rounds, to see that it works.")] = False,
) -> None:
    """Time the compiled attention kernel against what else computes the same, and count its memory."""
    from bench.microbench.operator.run import Request, run_operator_benchmark
    from reports.pages import kernels as report

    words, _ = ctx.obj
    names = tuple(name.strip() for name in shapes.split(",") if name.strip())
    command = shlex.join([NAME, *words])
    run_operator_benchmark(
        Request(out=out, threads=threads, repeats=repeats, shapes=names, quick=quick, command=command)
    )
    page, *_ = report.write_kernel_report(out)
    print("\n".join(report.kernel_lines(report.read_kernel_benchmark(out))))
    print(f"report: {page}")


@app.command()
def attention(
    ctx: typer.Context,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Only this comparison; may be repeated.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the report goes.")] = Path(
        "study/attention"
    ),
    threads: Annotated[
        int, typer.Option("--threads", parser=whole, metavar="INTEGER", help="Threads of every side.")
    ] = 2,
    repeats: Annotated[int, typer.Option("--repeats", parser=whole, metavar="INTEGER", help="Rounds, at least.")] = 5,
    malloc: Annotated[str, typer.Option("--malloc", help="Of the timed processes: tuned or default.")] = "tuned",
    quick: Annotated[bool, typer.Option("--quick", help="A small size and two rounds, to see that it works.")] = False,
) -> None:
    """Time our attention cores beside what one would install for the same pattern, and count their memory.

    For instance --only reformer. The same command again goes on where it was stopped.
    """
    from bench.microbench.attention.run import Request, run_attention_benchmark
    from experiments.attention.core_comparisons import COMPARISONS, attention_comparisons
    from reports.pages import attention as report

    words, _ = ctx.obj
    request = Request(
        out=out,
        comparisons=COMPARISONS,
        known=attention_comparisons(),
        only=tuple(only or ()),
        threads=threads,
        repeats=min(repeats, 2) if quick else repeats,
        malloc=malloc,
        quick=quick,
        command=shlex.join([NAME, *words]),
    )
    run_attention_benchmark(request, say=_say)
    page, *_ = report.write_attention_report(out)
    print("\n".join(report.attention_lines(report.read_attention_benchmark(out))))
    print(f"report: {page}")


@app.command()
def memory(
    ctx: typer.Context,
    rows: Annotated[
        list[str] | None, typer.Option("--row", metavar="NAME", help="Only these rows of Table 8 and its controls.")
    ] = None,
    batch: Annotated[int, typer.Option("--batch", parser=whole, metavar="INTEGER", help="Images of a step.")] = 2,
    size: Annotated[int, typer.Option("--size", parser=whole, metavar="INTEGER", help="Side in pixels.")] = 480,
    precision: Annotated[str, typer.Option("--precision", help="fp32, or autocast to bf16 or fp16.")] = "fp32",
    optimizer: Annotated[str, typer.Option("--optimizer", help="adamw or sgd.")] = "adamw",
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Recompute each block's activations.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Also take the step on this CPU and count.")] = False,
    scale: Annotated[
        bool, typer.Option("--scale", help="Instead: how one layer of each attention grows with tokens, N, L, batch.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="With --scale: tiny sizes, to see that it works.")] = False,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Default: study/memory, study/scaling.")] = "",
) -> None:
    """Predict the peak memory of a training step for each row of Table 8, without a GPU.

    For instance --row "Ours, DeiT" --batch 4 --precision bf16, or --size 160 --verify, or --scale.
    """
    from dataclasses import asdict

    from bench.profiling.memory import table
    from bench.profiling.memory.predict import StepSetting
    from experiments.tables.table8 import masked_networks, select_memory_rows
    from reports import writable_folder, write_report_files
    from reports.pages import memory as pages

    setting = StepSetting(batch=batch, size=size, precision=precision, optimizer=optimizer, checkpointing=checkpointing)
    if scale:
        if rows or verify or setting != StepSetting():
            raise ValueError("--scale goes with --quick and --out alone: it takes a layer, not a row's training step")
        _scale(Path(out or "study/scaling").expanduser(), quick, ctx)
        return
    if quick:
        raise ValueError("--quick goes with --scale")
    found = select_memory_rows(rows or ())
    networks = {row.name: row.settings for row in found}
    folder = writable_folder(Path(out or "study/memory").expanduser())
    began = time.perf_counter()
    records = table.predict_rows(networks, setting, say=_say)
    records = [record | {"quoted": row.quoted} for record, row in zip(records, found, strict=True)]
    forms = (
        {}
        if rows or not pages.is_paper_setting(asdict(setting))
        else {row.name: row.settings for row in masked_networks()}
    )
    masks = table.predict_rows(forms, setting, say=_say, alone=True) if forms else []
    spent = table.prediction_cost(began)
    verified = table.verify_rows(networks, setting, say=_say) if verify else []
    words, _ = ctx.obj
    made = pages.memory_report_files(records, verified, asdict(setting), shlex.join([NAME, *words]), masks, spent)
    page, *_ = write_report_files(folder, made)
    print("\n".join(pages.memory_lines(records)))
    print(f"report: {page}")


@data_app.command("verify")
def data_verify(
    spec: Annotated[str, typer.Argument(metavar="DATA", help="As --data takes it, or a folder of one of its layouts.")],
    jobs: Annotated[
        int, typer.Option("--jobs", parser=whole, metavar="INTEGER", help="Files read at a time; 0: by the processors.")
    ] = 0,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Write the tables there as CSV files too.")] = "",
) -> None:
    """Read every picture and label of a data set and say what is wrong with it, and what to do.

    For instance data verify ade20k:PATH. The exit code is 1 if something is wrong.
    """
    from bench.dataset_check import MAX_JOBS, check_dataset
    from bench.launchers.progress import ProgressCounter
    from reports import write_report_files
    from reports.pages import dataset_check

    if not 0 <= jobs <= MAX_JOBS:
        raise ValueError(f"--jobs {jobs}: expected 0 to {MAX_JOBS}")
    with ProgressCounter("reading") as progress:
        found = check_dataset(spec, jobs=jobs, progress=progress)
    record = found.record()
    print("\n".join(dataset_check.dataset_check_lines(record)))
    if out:
        write_report_files(Path(out).expanduser(), dataset_check.dataset_check_files(record))
        print(f"tables: {out}")
    if found.wrong:
        raise typer.Exit(1)


@app.command()
def hours(
    tflops: Annotated[float, typer.Option("--tflops", help="The card's printed peak, TFLOP/s.")] = 19.5,
    utilisation: Annotated[float, typer.Option("--utilisation", help="The share of it that is sustained.")] = 0.5,
    card: Annotated[str, typer.Option("--card", help="Its name, for the page.")] = "",
    seeds: Seeds = 5,
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Of the page.")] = "study/hours",
) -> None:
    """Predict the GPU-hours of Tables 5 to 8 at the paper's size, by counting operations: no GPU.

    For instance --card "the lab's card" --tflops 60 --utilisation 0.4.
    """
    from bench.profiling.gpu_hours import DEFAULT_IMAGE_SIZE
    from bench.results.gpu_assumption import GpuAssumption
    from experiments.tables.gpu_hours import count_table_hours
    from reports import writable_folder, write_report_files
    from reports.pages import gpu_hours as pages

    if seeds < 1:
        raise ValueError(f"--seeds {seeds}: expected at least 1")
    given = (tflops, utilisation) != (GpuAssumption.peak, GpuAssumption.share)
    assumed = GpuAssumption(
        name=card or ("a card of yours" if given else GpuAssumption.name), peak=tflops, share=utilisation
    )
    folder = writable_folder(Path(out).expanduser())
    records = count_table_hours(_say)
    page, *_ = write_report_files(folder, pages.gpu_hours_report_files(records, assumed, seeds, DEFAULT_IMAGE_SIZE))
    print(pages.totals_table(records, assumed, seeds), end="")
    print(f"report: {page}")


@app.command()
def convert(
    released: Annotated[Path, typer.Argument(metavar="RELEASED.pth", help="A checkpoint of the released code.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Ours: a name that ends in .safetensors.")],
    heads: Annotated[
        int, typer.Option("--heads", parser=whole, metavar="INTEGER", help="Of the attention; in no shape.")
    ] = 8,
) -> None:
    """Turn a checkpoint that the authors' released code (mmcv) wrote into ours, and say how the two compare.

    Nothing but tensors and plain values is unpickled. Class names and colours are the file's own where it has them.
    """
    from bench.evaluation.convert import convert_checkpoint as turn

    turn(released.expanduser(), out.expanduser(), heads=heads)


@app.command()
def evaluate(
    ctx: typer.Context,
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CHECKPOINT...", help="Files of trained models.")],
    data: Data,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="train, val or test.")] = "val",
    images: Annotated[
        int, typer.Option("--images", parser=whole, metavar="INTEGER", help="Only the first so many; 0: all.")
    ] = 0,
    mode: Mode = "",
    window: Window = None,
    stride: Stride = None,
    scales: Scales = "",
    flip: Flip = None,
    base: Base = "",
    device: Device = "auto",
    processes: Annotated[
        int, typer.Option("--processes", parser=whole, metavar="INTEGER", help="Side by side on this machine.")
    ] = 0,
    gpus: Annotated[
        int, typer.Option("--gpus", parser=whole, metavar="INTEGER", help="A process for each of so many GPUs.")
    ] = 0,
    threads: Annotated[
        int, typer.Option("--threads", parser=whole, metavar="INTEGER", help="Of each process; 0: all, shared.")
    ] = 0,
    own_modules: OwnModules = False,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="FOLDER", help="Write files for Cityscapes' test server there."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Of the scores.")] = Path("study/evaluation"),
) -> None:
    """Score checkpoints on a data set by the paper's protocol: six scales, mirrored too, sliding windows.

    Interrupted, the same command continues; under torchrun, or begun on several machines that share --out, the
    processes divide the pictures among them. Several checkpoints are compared by a bootstrap over the pictures.
    """
    from filelock import FileLock

    from bench import environment
    from bench.evaluation import multi_process
    from bench.evaluation.protocol import asked
    from reports import write_report_files
    from reports.pages import evaluation as pages

    request = multi_process.Request(
        checkpoints=tuple(path.expanduser() for path in checkpoints),
        data=data,
        split=split,
        images=images,
        asked=asked(mode=mode, window=window, stride=stride, scales=scales, flip=flip, base=base),
        device=device,
        processes=processes,
        gpus=gpus,
        threads=threads,
        own_modules=own_modules,
        results=results and results.expanduser(),
        out=out.expanduser(),
    )
    try:
        scored = multi_process.evaluate_checkpoints(request, _say)
    except KeyboardInterrupt:
        _say(f"{NAME}: stopped; finished pictures are kept, the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    if not environment.is_main_process():
        return
    records, pairs = [each.record for each in scored], multi_process.paired_comparisons(scored)
    words, _ = ctx.obj
    page = pages.evaluation_markdown(records, pairs, shlex.join([NAME, *words]))
    print("\n".join(pages.evaluation_lines(records, pairs)))
    name = "-".join(record["name"] for record in records)
    with FileLock(request.out / "report.lock"):  # another machine's first process may write the same page
        written, *_ = write_report_files(request.out, {f"{name[:LONGEST_NAME]}-{split}.md": page.encode()})
    print(f"report: {written}; scores and the counts of every picture: {', '.join(r['folder'] for r in records)}")


@app.command()
def predict(
    path: Annotated[Path, typer.Argument(metavar="PICTURE|FOLDER", help="A picture, or a folder of pictures.")],
    checkpoint: Annotated[
        list[Path], typer.Option("--checkpoint", metavar="FILE", help="A trained model; two are put side by side.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the pictures go.")],
    mode: Mode = "",
    window: Window = None,
    stride: Stride = None,
    scales: Scales = "",
    flip: Flip = None,
    base: Base = "",
    device: Device = "auto",
    own_modules: OwnModules = False,
) -> None:
    """Draw what a checkpoint sees in pictures: classes, boundaries, directions, before and after refinement.

    A file that cannot be read is named and the others go on; the exit code is then 1.
    """
    from bench.evaluation.predict import Request, image_paths, load_predictors
    from bench.evaluation.protocol import asked

    if len(checkpoint) > 2:
        raise ValueError(f"--checkpoint: {len(checkpoint)} files; expected one, or two to put side by side")
    files = image_paths(path.expanduser(), out.expanduser())
    request = Request(
        checkpoints=tuple(file.expanduser() for file in checkpoint),
        asked=asked(mode=mode, window=window, stride=stride, scales=scales, flip=flip, base=base),
        device=device,
        own_modules=own_modules,
    )
    refused = _draw_all(load_predictors(request), files, out.expanduser())
    print(f"{len(files) - refused} of {len(files)} pictures: {out}")
    if refused:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Versions, processors, accelerators, attention backends.

    And which optional parts are missing, with the line that installs each.
    """

    from bench.doctor import diagnosis_lines

    for line in diagnosis_lines():
        print(line)


def main(arguments: Sequence[str] | None = None, *, tasks: WorkerTasks | None = None) -> int:
    """Run a command line and return the exit code: 0, 1 (runs failed), 2 (user's mistake), 130 (interrupted).

    `tasks` replaces what the workers call.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return int(app(words, standalone_mode=False, prog_name=NAME, obj=(words, tasks)) or 0)
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return INTERRUPTED
    except (_UsageError, ValueError) as error:
        return _refuse(_message(error))
    except ModuleNotFoundError as error:
        return _refuse(f"{error}; `{NAME} doctor` says what is installed")
    except SystemExit as stop:  # nothing here raises it
        return _refuse(f"a module that a slot names ended the program while it was imported (exit code {stop.code})")
    except BrokenPipeError:  # whoever read the output has gone; the interpreter's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return INTERRUPTED
    except OSError as error:
        explained = _explain(error)
        if explained is None:
            raise
        return _refuse(explained)


def _request(ctx: typer.Context, options: dict[str, Any]) -> Request:
    from bench.study.request import Request

    words, _ = ctx.obj
    return Request(**options, command=shlex.join([NAME, *words]))


def _study(
    kind: str,
    grid: str,
    make: VariantFactory,
    request: Request,
    ctx: typer.Context,
    dry_run: bool,
    after: Callable[[Study], None] | None = None,
) -> None:
    """Do the study and write its report, or say what it would do. Exit code 1 where runs failed."""
    from bench.study import study as studies
    from bench.study.request import build_study

    study = _with_tasks(build_study(kind, grid, make, request, dry_run=dry_run), ctx)
    if dry_run:
        print("\n".join(studies.dry_run_lines(study)))
        if study.preset == "paper":
            _print_hours(study)
        return
    rows = _perform(study, after)
    if any(row["status"] == "failed" for row in rows):
        raise typer.Exit(1)


def _tried(
    name: str, make: VariantFactory, request: Request, ctx: typer.Context, dry_run: bool
) -> Sequence[Row] | None:
    """The rows that learning rates are chosen from; None while some are still to be made, by `dry_run` or other shards.

    They have the preset's steps even where the table has more, so that tables of several lengths share them.
    """
    from bench.config.presets import preset
    from bench.study import study as studies
    from bench.study.request import build_study
    from experiments.tables.lr_sweep import SWEEP_SEEDS
    from reports.analysis.lr_sweep import LR_SWEEP_KIND

    longer = request.steps >= preset(request.preset).train.steps
    request = replace(request, seeds=min(SWEEP_SEEDS, request.seeds), steps=0 if longer else request.steps, control="")
    study = _with_tasks(build_study(LR_SWEEP_KIND, name, make, request, dry_run=dry_run), ctx)
    study = replace(study, tasks=replace(study.tasks, measure=""))
    if not dry_run:
        _perform(study)
    if studies.is_complete(study):
        return studies.study_rows(study)
    if dry_run:
        print("\n".join(studies.dry_run_lines(study)))
        print("then the table, each row at the learning rate that is chosen from these")
    else:
        print("the table follows once the other shards have tried their rates: by the same command again")
    return None


def _with_tasks(study: Study, ctx: typer.Context) -> Study:
    _, tasks = ctx.obj
    return replace(study, tasks=tasks) if tasks else study


def _perform(study: Study, after: Callable[[Study], None] | None = None) -> Sequence[Row]:
    """Do what is due, write the report once nothing is missing, then call `after`; says how to go on if stopped."""
    from bench.launchers.queue import Interrupted
    from bench.results.store import Store
    from bench.study import study as studies

    try:
        rows = studies.run_study(study)
    except Interrupted as stop:
        done, total = studies.count_finished_runs(study)
        print(
            f"{NAME}: stopped by {stop}; {done} of {total} runs are done, the same command continues", file=sys.stderr
        )
        raise typer.Exit(INTERRUPTED) from None
    print("\n".join(studies.summary_lines(rows, studies.count_finished_runs(study)[1])))
    left = studies.remaining_work_line(study)
    if left and not study.shard.whole:
        print(f"shard {study.shard} is done; {left}")
        return rows
    with Store(study.out).lock():  # shards that end together write one report
        _write_report([study.out], study.name)
    if after:
        after(study)
    return rows


def _print_hours(study: Study) -> None:
    """What the runs that are due take of a GPU."""
    from bench.profiling import gpu_hours as hours
    from bench.results.gpu_assumption import GpuAssumption
    from bench.study.study import count_due_runs
    from reports.pages import gpu_hours as pages
    from unept.data import open_data

    settings = study.variants[0].settings
    pictures = settings.evaluation.images or len(open_data(study.data, settings.evaluation.split, settings.scenes))
    records = list(hours.gpu_hours_records(study.name, study.variants, pictures=pictures, known={}))
    print("\n".join(pages.gpu_hours_lines(records, count_due_runs(study), GpuAssumption(), hours.DEFAULT_IMAGE_SIZE)))


def _write_report(folders: Sequence[Path], experiment: str, control: str = "", *, with_pictures: bool = True) -> None:
    from reports import read_study, write_report
    from reports.study import terminal

    page, html, *_ = write_report(folders, experiment, control=control, with_pictures=with_pictures)
    print("\n".join(terminal.study_lines(read_study(folders, experiment, control))))
    print(f"report of {experiment}: {page} and {html.name}")


def _scale(out: Path, quick: bool, ctx: typer.Context) -> None:
    """How memory, operations and time of one layer of each attention grow."""
    from bench.attention_layer import scaling as scale
    from bench.environment import raise_malloc_thresholds
    from experiments.attention.layer_scaling import attentions_to_scale
    from reports import writable_folder, write_report_files
    from reports.pages import scaling

    writable_folder(out)
    raise_malloc_thresholds()
    words, _ = ctx.obj
    effort = scale.QUICK_SWEEP if quick else scale.ScalingSweep()
    given = attentions_to_scale()
    records = scale.measure_layer_scaling(given, effort, say=_say)
    exponents = scale.fit_exponents(records)
    protocol = scale.scaling_protocol(effort, next(iter(given.values())))
    page, *_ = write_report_files(
        out, scaling.scaling_report_files(records, exponents, protocol, shlex.join([NAME, *words]))
    )
    print("\n".join(scaling.scaling_lines(exponents)))
    print(f"report: {page}")


def _count_networks(study: Study) -> None:
    """The published networks of Table 7 counted, in the study's folder: what is trained there is smaller."""
    from experiments.tables.published_networks import count_networks, select_networks

    _write_complexity(count_networks(select_networks((480, 480))), study.out / "complexity", study.command, None)


def _write_complexity(records: Any, out: Path, command: str, timing: Any) -> None:
    from reports import write_report_files
    from reports.pages import complexity

    page, html = write_report_files(out, complexity.complexity_report_files(records, command, timing))[:2]
    print("\n".join(complexity.complexity_lines(records)))
    print(f"report: {page} and {html.name}")


def _draw_all(made: Sequence[Predictor], files: Mapping[str, Path], out: Path) -> int:
    """Predict and draw each picture; returns how many could not be read."""
    from bench.evaluation.predict import direction_colours, predict_image
    from bench.launchers.progress import ProgressCounter
    from reports import write_report_files
    from reports.pages import predictions

    classes, palette = made[0].classes, made[0].palette
    if any(each.classes != classes for each in made):
        _say(f"{NAME}: the checkpoints call their classes otherwise; the names are those of {made[0].name}")
    refused = 0
    with ProgressCounter("predicting") as counter:
        for number, (name, path) in enumerate(files.items(), 1):
            try:
                photo, found = predict_image(path, made)
            except ValueError as error:
                refused += 1
                _say(f"{NAME}: {error}")
                continue
            if photo.changed:
                _say(f"{path}: {', '.join(photo.changed)}")
            for each, seen in found.items():
                drawn = predictions.prediction_files(
                    photo.image, **seen._asdict(), classes=classes, palette=palette, wheel=direction_colours()
                )
                place = (out / each / name if len(made) > 1 else out / name).parent
                write_report_files(place, {f"{Path(name).name}-{end}": data for end, data in drawn.items()})
            if len(made) > 1:
                best = {each: seen.best for each, seen in found.items()}
                side = predictions.comparison_figure(photo.image, best, classes=classes, palette=palette)
                write_report_files((out / name).parent, {f"{Path(name).name}-compare.png": side})
            counter(number, len(files))
    return refused


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _refuse(message: str) -> int:
    print(f"{NAME}: {message}", file=sys.stderr)
    return 2


def _message(error: Exception) -> str:
    """The error in one line."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if text.startswith("Got unexpected extra argument") and "=" in text:
        text += "; axes follow --grid, as in --grid N=4,16 L=1,3"
    return " ".join(text.split())


def _explain(error: OSError) -> str | None:
    """One line for what a user can mend: a full disk, a folder that cannot be written. None for anything else."""
    place = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}the disk is full; finished runs are kept, and the same command continues once there is room"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{place}not readable or not writable ({error.strerror}); name another folder with --out"
    if error.errno in _NO_PLACE:
        return f"{place}{error.strerror}; name another folder with --out"
    return None


def _version() -> str:
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
