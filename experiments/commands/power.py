"""`unept-bench power`: how many seeds a difference needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.option_fields import argument, option
from experiments.commands.console import DONE, Invocation, print_lines
from experiments.commands.options import Verb
from experiments.commands.study import chosen_experiments


@dataclass(frozen=True, kw_only=True)
class PowerOptions:
    """The difference, and where the spread of seeds comes from."""

    folder: Path | None = argument(
        None, help="Study that the spread of seeds is taken from.", metavar="FOLDER", completes="files"
    )
    difference: float = option(1.0, help="Difference to be shown, in percent points of mIoU.", metavar="POINTS")
    sd: float | None = option(
        None,
        help="Standard deviation of seeds, in percent points.",
        metavar="POINTS",
        default_text="the study's",
    )
    comparisons: int = option(1, help="Variants compared with the control.", metavar="N", least=1)
    experiment: str = option("", help="Only this one of the folder's experiments.", metavar="NAME", default_text="all")
    control: str = option("", help="Compare with this variant.", metavar="VARIANT", default_text="the study's")


def power(options: PowerOptions, call: Invocation) -> int:
    """Say how many seeds a difference needs, and what a number of seeds can show.

    The spread of seeds is given by --sd, or taken from a study: power study/quick-scenes --difference 2.
    """
    if (options.folder is None) == (options.sd is None):
        raise ValueError("power: expected --sd, or the folder of a study to take the spread from, and not both")
    if options.folder is None:
        from bench.stats.power import plan_seeds, seed_plan_lines

        print_lines(seed_plan_lines(plan_seeds(options.difference, options.sd or 0.0, family=options.comparisons)))
        return DONE
    from bench.results.store import Store

    names = chosen_experiments([Store(options.folder)], options.experiment, options.control)

    from reports import read_study
    from reports.study import terminal

    for name in names:
        print(f"{name}:")
        study = read_study([options.folder], name, options.control)
        print_lines(f"  {line}" for line in terminal.power_lines(study, options.difference))
    return DONE


VERB = Verb(
    name="power",
    run=power,
    options=PowerOptions,
    group="Study",
    summary="Say how many seeds a difference needs",
    example="power --difference 0.5 --sd 0.3",
)
