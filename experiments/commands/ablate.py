"""`unept-bench ablate`: train every combination of the axes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.config.grid import parse_axes
from bench.config.option_fields import nested_options, option
from bench.study.options import RECIPE, StudyRequest, study_settings
from experiments.commands.console import Invocation
from experiments.commands.options import Verb
from experiments.commands.rate_sweep import run_at_own_rates


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    """A study's options and the axes of the grid."""

    grid: tuple[str, ...] = option(
        (), help="N=4,16,64 L=1,3 heads=2,4 ...", metavar="AXES", group=RECIPE, completes="fields"
    )
    rates: str = option(
        "",
        help="Choose each variant's learning rate from these and beyond on the validation split, then score the test "
        "split.",
        metavar="RATES",
        group=RECIPE,
        default_text="the recipe's rate",
    )
    dry_run: bool = option(False, help="Only say which runs are due and how long they may take.")
    study: StudyRequest = nested_options(StudyRequest)


def ablate(options: AblateOptions, call: Invocation) -> int:
    """Train every combination of the axes with several seeds, and write the table. Any field is an axis."""
    axes = parse_axes(options.grid)
    request = replace(options.study, command=call.command)
    for axis in axes:
        if axis.name in ("steps", "split", "backbone_weights") and getattr(request, axis.name):
            raise ValueError(f"{axis.name} is both an axis and an option (--{axis.name.replace('_', '-')}): give one")
    study_settings(request)  # refuses what arguments and paths alone can tell, before torch is imported

    from bench.config.grid import expand_axes
    from experiments.tables import lr_sweep
    from experiments.tables.baselines import NONE, with_control

    make = with_control(lambda base: expand_axes(axes, base), request.control, [axis.name for axis in axes])
    name = " ".join([*map(str, axes), *["none"] * (request.control == NONE)])
    rates = lr_sweep.parse_rates(options.rates)
    if rates:
        lr_sweep.check_sweep_request(request, axes, said="axis")
    return run_at_own_rates("ablate", name, make, request, call, rates, dry_run=options.dry_run)


VERB = Verb(
    name="ablate",
    run=ablate,
    options=AblateOptions,
    group="Study",
    summary="Train every combination of fields",
    example="ablate --grid N=4,16,64 L=1,3 --seeds 3",
    spread="--grid",
)
