"""The command `unept-bench`: one thin function per verb.

A user's mistake is one line on standard error and exit code 2.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from bench.request import Maker, Request
    from bench.study import Study, Tasks

NAME = "unept-bench"
INTERRUPTED = 130
KERNELS = Path("study/kernels")
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
    """Words after `--set PARAMETER=VALUE` are parameters too."""

    option = "--set"


def whole(text: str | int) -> int:
    """An option's whole number; the error names what was typed."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no whole number") from None


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

Seeds = Annotated[
    int,
    typer.Option("--seeds", parser=whole, metavar="INTEGER", help="Trainings of each variant, with seeds 0, 1, ..."),
]
Preset = Annotated[str, typer.Option("--preset", metavar="NAME", help="quick, small or paper.")]
Data = Annotated[
    str, typer.Option("--data", metavar="DATA", help="scenes, folder:PATH or ade20k:PATH; default: the preset's.")
]
Steps = Annotated[
    int, typer.Option("--steps", parser=whole, metavar="INTEGER", help="Training steps; 0: the preset's.")
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
Retry = Annotated[
    str, typer.Option("--retry", metavar="STATUSES", help="Do runs of these statuses again, e.g. failed,oom.")
]
Control = Annotated[
    str,
    typer.Option(
        "--control",
        metavar="VARIANT",
        help="Compare the others with this one; none: with the model without self-attention, a row of its own.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which runs are due and how long they may take.")]


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
def ablate(
    ctx: typer.Context,
    grid: Annotated[
        list[str] | None, typer.Option("--grid", metavar="AXES", help="N=4,16,64 L=1,3 heads=2,4 ...")
    ] = None,
    seeds: Seeds = 5,
    preset: Preset = "quick",
    data: Data = "",
    steps: Steps = 0,
    backbone_weights: Weights = "",
    out: Out = "",
    jobs: Jobs = 0,
    threads: Threads = 1,
    backend: Backend = "auto",
    retry: Retry = "",
    control: Control = "",
    dry_run: DryRun = False,
) -> None:
    """Train every combination of the axes and write the table.

    For instance --grid N=4,16,64 L=1,3: each combination is trained with several seeds. Any field is an axis.
    """
    from bench.grid import expand, parse_axes
    from experiments.controls import NONE, with_control

    axes = parse_axes(grid or [])
    taken = {"steps": steps, "backbone_weights": backbone_weights}
    for axis in axes:
        if taken.get(axis.name):
            raise ValueError(f"{axis.name} is both an axis and an option (--{axis.name.replace('_', '-')}): give one")
    request = _request(
        ctx,
        seeds=seeds,
        preset=preset,
        data=data,
        steps=steps,
        backbone_weights=backbone_weights,
        out=out,
        jobs=jobs,
        threads=threads,
        backend=backend,
        retry=retry,
        control=control,
    )
    make = with_control(lambda base: expand(axes, base), control, [axis.name for axis in axes])
    name = " ".join([*map(str, axes), *["none"] * (control == NONE)])
    _study("ablate", name, make, request, ctx, dry_run)


@app.command()
def table(
    ctx: typer.Context,
    number: Annotated[
        int,
        typer.Argument(parser=whole, metavar="NUMBER", help="5 (components), 6 (N and L), 7 (rivals), 8 (drop-ins)."),
    ],
    seeds: Seeds = 5,
    preset: Preset = "quick",
    data: Data = "",
    steps: Steps = 0,
    backbone_weights: Weights = "",
    out: Out = "",
    jobs: Jobs = 0,
    threads: Threads = 1,
    backend: Backend = "auto",
    retry: Retry = "",
    control: Control = "",
    dry_run: DryRun = False,
) -> None:
    """Run the variants of one of the paper's tables."""
    from experiments import table5, table6, table7, table8
    from experiments.controls import NONE, with_control

    tables = {5: table5, 6: table6, 7: table7, 8: table8}
    if number not in tables:
        raise ValueError(f"table {number}: expected 5, 6, 7 or 8")
    request = _request(
        ctx,
        seeds=seeds,
        preset=preset,
        data=data,
        steps=steps,
        backbone_weights=backbone_weights,
        out=out,
        jobs=jobs,
        threads=threads,
        backend=backend,
        retry=retry,
        control=control or tables[number].CONTROL,
    )
    name = NONE if control == NONE and number in (6, 7) else ""
    after = _count_networks if number == 7 else None
    _study(f"table {number}", name, with_control(tables[number].variants, control), request, ctx, dry_run, after)


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
    from bench.complexity import parse_size
    from experiments.complexity import chosen, counted, times

    for name, value in (("batch", batch), ("rounds", rounds)):
        if value < 1:
            raise ValueError(f"--{name} {value}: expected at least 1")
    if model and network:
        raise ValueError("--model and --network: give one of them")
    pixels = parse_size(size)
    found = chosen(pixels, models=model or (), names=network or ())
    records = counted(found)
    timing = times(found, records, pixels, batch=batch, rounds=rounds, say=_say) if timed else None
    words, _ = ctx.obj
    _write_complexity(records, Path(out).expanduser(), shlex.join([NAME, *words]), timing)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Studies, such as study/quick-scenes.")],
    experiment: Annotated[str, typer.Option("--experiment", help="Only this one of the folders' experiments.")] = "",
    control: Annotated[str, typer.Option("--control", help="Compare the others with this variant.")] = "",
) -> None:
    """Make a study's tables and reports again, from its rows.

    Rows of one experiment in several folders are read together, and the first of them takes the report.
    """
    from bench.rows import KINDS
    from bench.store import Store

    stores = [Store(folder) for folder in folders]
    names = [experiment] if experiment else [*dict.fromkeys(name for store in stores for name in store.experiments())]
    for store in stores:
        for problem in (problem for kind in KINDS for problem in store.read(kind).problems):
            print(problem)
        store.write_tables()
    for name in names:
        _write_report(folders, name, control)


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
        from bench.power import lines, plan

        print("\n".join(lines(plan(difference, sd or 0.0, family=comparisons))))
        return
    from bench.store import Store
    from reports import read_study, terminal

    for name in [experiment] if experiment else [*Store(folder).experiments()]:
        print(f"{name}:")
        print("\n".join(f"  {line}" for line in terminal.power(read_study([folder], name, control), difference)))


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
    from bench import step as steps
    from bench.environment import raise_malloc_thresholds
    from reports import step as pages

    told = steps.Protocol(
        cases=tuple(steps.case_of(words) for words in cases or steps.CASES),
        backends=tuple(filter(None, backends.split(","))) or steps.default_backends(),
        images=images,
        rounds=rounds,
        threads=threads,
        malloc=raise_malloc_thresholds(),
    )
    page = pages.page(steps.time_cases(told, say=print), steps.setting(told))
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
    from bench import check as checks
    from bench.environment import raise_malloc_thresholds
    from experiments.controls import timed_beside

    began = time.perf_counter()
    raise_malloc_thresholds()
    subject = checks.subject(slot, name, parameters or [])
    beside = [checks.subject(slot, other, []) for other in timed_beside(slot) if other != name]
    lines = checks.check(subject, beside=beside, say=lambda line: print(line, flush=True))
    print(checks.total(lines, time.perf_counter() - began))
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
    from bench.kernels.run import Request, perform
    from reports import kernels as report

    words, _ = ctx.obj
    names = tuple(name.strip() for name in shapes.split(",") if name.strip())
    command = shlex.join([NAME, *words])
    perform(Request(out=out, threads=threads, repeats=repeats, shapes=names, quick=quick, command=command))
    page, *_ = report.write(out)
    print("\n".join(report.lines(report.read(out))))
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
    from bench.cores.run import Request, perform
    from experiments.attention_cores import WHERE, comparisons
    from reports import attention as report

    words, _ = ctx.obj
    request = Request(
        out=out,
        comparisons=WHERE,
        known=comparisons(),
        only=tuple(only or ()),
        threads=threads,
        repeats=min(repeats, 2) if quick else repeats,
        malloc=malloc,
        quick=quick,
        command=shlex.join([NAME, *words]),
    )
    perform(request, say=_say)
    page, *_ = report.write(out)
    print("\n".join(report.lines(report.read(out))))
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
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="Of the report.")] = "study/memory",
) -> None:
    """Predict the peak memory of a training step for each row of Table 8, without a GPU.

    For instance --row "Ours, DeiT" --batch 4 --precision bf16, or --size 160 --verify.
    """
    from dataclasses import asdict

    from bench.memory import table
    from bench.memory.predict import StepSetting
    from experiments.table8 import chosen
    from reports import memory as pages
    from reports import write_files

    setting = StepSetting(batch=batch, size=size, precision=precision, optimizer=optimizer, checkpointing=checkpointing)
    found = chosen(rows or ())
    networks = {row.name: row.settings for row in found}
    records = table.predicted(networks, setting, say=_say)
    records = [record | {"quoted": row.quoted} for record, row in zip(records, found, strict=True)]
    verified = table.verified(networks, setting, say=_say) if verify else []
    words, _ = ctx.obj
    made = pages.files(records, verified, asdict(setting), shlex.join([NAME, *words]))
    page, *_ = write_files(Path(out).expanduser(), made)
    print("\n".join(pages.lines(records)))
    print(f"report: {page}")


@app.command()
def doctor() -> None:
    """Versions, processors, accelerators, attention backends.

    And which optional parts are missing, with the line that installs each.
    """
    from bench.doctor import lines

    for line in lines():
        print(line)


def main(arguments: Sequence[str] | None = None, *, tasks: Tasks | None = None) -> int:
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


def _request(ctx: typer.Context, **options: Any) -> Request:
    from bench.request import Request

    words, _ = ctx.obj
    return Request(**options, command=shlex.join([NAME, *words]))


def _study(
    kind: str,
    grid: str,
    make: Maker,
    request: Request,
    ctx: typer.Context,
    dry_run: bool,
    after: Callable[[Study], None] | None = None,
) -> None:
    """Do the study, or say what it would do; always ends by saying how to go on."""
    from bench import study as studies
    from bench.request import study_of
    from bench.runner import Interrupted

    _, tasks = ctx.obj
    study = study_of(kind, grid, make, request, dry_run=dry_run)
    study = replace(study, tasks=tasks) if tasks else study
    if dry_run:
        print("\n".join(studies.dry_run_lines(study)))
        return
    try:
        rows = studies.perform(study)
    except Interrupted as stop:
        done, total = studies.finished(study), study.seeds * len(study.variants)
        print(
            f"{NAME}: stopped by {stop}; {done} of {total} runs are done, the same command continues", file=sys.stderr
        )
        raise typer.Exit(INTERRUPTED) from None
    print("\n".join(studies.summary(rows, study.seeds * len(study.variants))))
    _write_report([study.out], study.name)
    if after:
        after(study)
    if any(row["status"] == "failed" for row in rows):
        raise typer.Exit(1)


def _write_report(folders: Sequence[Path], experiment: str, control: str = "") -> None:
    from reports import read_study, terminal, write_report

    page, html, *_ = write_report(folders, experiment, control=control)
    print("\n".join(terminal.lines(read_study(folders, experiment, control))))
    print(f"report of {experiment}: {page} and {html.name}")


def _count_networks(study: Study) -> None:
    """The published networks of Table 7 counted, in the study's folder: what is trained there is smaller."""
    from experiments.complexity import chosen, counted

    _write_complexity(counted(chosen((480, 480))), study.out / "complexity", study.command, None)


def _write_complexity(records: Any, out: Path, command: str, timing: Any) -> None:
    from reports import complexity, write_files

    page, html = write_files(out, complexity.files(records, command, timing))[:2]
    print("\n".join(complexity.lines(records)))
    print(f"report: {page} and {html.name}")


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
