"""The command `unept-bench`: registers the verbs and turns what they end with into exit codes.

A user's mistake is one line on standard error and exit code 2.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated

import typer

from bench import environment
from experiments.commands import (
    ablate,
    attention,
    check,
    completion,
    complexity,
    convert,
    data_verify,
    doctor,
    evaluate,
    hours,
    kernels,
    memory,
    power,
    predict,
    report,
    scaling,
    step,
    table,
    train,
)
from experiments.commands.console import (
    INTERRUPTED,
    NAME,
    Invocation,
    explain_os_error,
    one_line,
    refuse,
    visible_output,
)
from experiments.commands.help_text import VerbGroup
from experiments.commands.options import register

if TYPE_CHECKING:
    from bench.study.study import WorkerTasks

VERBS = (
    *(ablate.VERB, table.VERB, report.VERB, power.VERB),
    *(train.VERB, evaluate.VERB, predict.VERB, convert.VERB, check.VERB),
    *(complexity.VERB, memory.VERB, scaling.VERB, step.VERB, kernels.VERB, attention.VERB, hours.VERB),
    doctor.VERB,
)
COMPLETION_OPTIONS = (("--install-completion",), ("--show-completion",))
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # of whichever click this typer brings

app = typer.Typer(cls=VerbGroup, pretty_exceptions_enable=False, rich_markup_mode=None)
data_app = typer.Typer(cls=VerbGroup, rich_markup_mode=None)
for _verb in VERBS:
    register(app, _verb)
register(data_app, data_verify.VERB)
app.add_typer(
    data_app,
    name="data",
    help="Look after data sets.",
    short_help="Verify a data set: data verify",
    rich_help_panel=doctor.VERB.group,
)


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


def main(arguments: Sequence[str] | None = None, *, tasks: WorkerTasks | None = None) -> int:
    """Run a command line and return the exit code: 0, 1 (runs failed), 2 (user's mistake), 130 (interrupted).

    Args:
        arguments: The words after the program's name; None for those of this process.
        tasks: What the workers of a study call instead of the real training and measures.
    """
    words = tuple(sys.argv[1:] if arguments is None else arguments)

    def run() -> int:
        call = Invocation(words=words, tasks=tasks)
        variables = environment.default_thread_variables() | environment.home_variables()
        with environment.set_variables(variables):  # before torch is imported
            return int(app(list(words), standalone_mode=False, prog_name=NAME, obj=call) or 0)

    if words[:1] in COMPLETION_OPTIONS and len(words) > 1:
        return refuse(f"{words[0]} {words[1]}: expected no word after it; call it from the shell that is to complete")
    if completion.VARIABLE in os.environ:
        return completion.answer(run)
    with visible_output() as output:
        output.probe()
        if output.error is not None:
            return refuse(f"standard output cannot be written ({output.error.strerror})")
        code = _exit_code(run, words)
        output.flush()
        if output.error is None:
            return code
        if output.error.errno == errno.EPIPE:  # whoever read the output has gone
            return code or INTERRUPTED
        return refuse(f"standard output cannot be written ({output.error.strerror}); all else was done, see above")


def _exit_code(run: Callable[[], int], words: Sequence[str]) -> int:
    """Return what `run` returns, and an exit code for each exception that is no fault of the program."""
    try:
        return run()
    except typer.Exit as stop:
        return stop.exit_code
    except typer.Abort:
        return INTERRUPTED
    except (_UsageError, ValueError) as error:
        return refuse(one_line(error))
    except ImportError as error:
        return refuse(f"{one_line(error)}; `{NAME} doctor` says what is installed")
    except MemoryError:
        return refuse("no memory is left (ulimit -v, or the machine's); finished runs are kept")
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            raise
        return refuse("no further thread may be started (ulimit -u); finished runs are kept")
    except SystemExit as stop:
        if words[:1] in COMPLETION_OPTIONS:
            return int(stop.code or 0)
        return refuse(f"code outside this program ended it (SystemExit: {stop.code})")
    except OSError as error:
        explained = explain_os_error(error)
        if explained is None:
            raise
        return refuse(explained)


def _version() -> str:
    try:
        return version(NAME)
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
