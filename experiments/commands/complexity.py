"""`unept-bench complexity`: count parameters and operations."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.config.option_fields import option
from bench.profiling.image_size import parse_size
from bench.profiling.network_spec import check_network_spec
from experiments.commands.console import DONE, Invocation, print_lines, print_progress
from experiments.commands.options import Verb


@dataclass(frozen=True, kw_only=True)
class ComplexityOptions:
    """Networks to count, and the protocol of their times."""

    size: tuple[int, int] = option(
        (480, 480),
        help="480, or HEIGHTxWIDTH as in 1024x2048.",
        metavar="SIZE",
        default_text="480",
        parse=parse_size,
    )
    model: tuple[str, ...] = option(
        (),
        help="Count this instead: timm:NAME, or module:callable of your own.",
        metavar="MODEL",
        default_text="the networks of Table 7",
    )
    network: tuple[str, ...] = option(
        (), help="Only these of the paper's networks.", metavar="NAME", default_text="all"
    )
    time: bool = option(False, help="Also time inference and a training step, in turns.")
    batch: int = option(1, help="Images of a timed step.", metavar="N", least=1)
    rounds: int = option(5, help="Times that each is timed.", metavar="N", least=1)
    out: Path = option(
        Path("study/complexity"), help="Folder of the report.", metavar="FOLDER", completes="files", writes="folder"
    )


def complexity(options: ComplexityOptions, call: Invocation) -> int:
    """Count parameters and operations of the networks of Table 7, or of any model: no weights, no memory."""
    if options.model and options.network:
        raise ValueError("--model and --network: give one of them")

    from experiments.tables.table7 import check_network_names

    check_network_names(options.network)
    for spec in options.model:
        check_network_spec(spec)

    from experiments.tables.published_networks import add_network_times, count_networks, select_networks
    from reports import writable_folder

    networks = select_networks(options.size, models=options.model, names=options.network)
    folder = writable_folder(options.out)
    records = count_networks(networks)
    timing = None
    if options.time:
        timing = add_network_times(
            networks, records, options.size, batch=options.batch, rounds=options.rounds, say=print_progress
        )
    write_complexity(records, folder, call.command, timing)
    return DONE


def write_complexity(records: Any, out: Path, command: str, timing: Any) -> None:
    """Write the report of counted networks to `out` and print its table; `timing` is the protocol of times or None."""
    from reports import write_files
    from reports.pages import complexity as pages

    page, html = write_files(out, pages.complexity_report_files(records, command, timing))[:2]
    print_lines(pages.complexity_lines(records))
    print(f"report: {page} and {html.name}")


VERB = Verb(
    name="complexity",
    run=complexity,
    options=ComplexityOptions,
    group="Cost",
    summary="Count parameters and operations",
    example="complexity --network CCNet --network Ours --time",
    user_code=lambda options: ", ".join(name for name in options.model if ":" in name and not name.startswith("timm:")),
)
