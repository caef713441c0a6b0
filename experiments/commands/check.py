"""`unept-bench check`: check an attention."""

from __future__ import annotations

import time
from dataclasses import dataclass

from bench.config.attention_options import model_with_attention
from bench.config.option_fields import argument, option
from experiments.commands.console import DONE, FAILED, Invocation
from experiments.commands.options import Verb
from unept.config import SLOTS


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """The attention that `check` looks at, and its slot."""

    name: str = argument(help="One of our names, or module:Class of your own.", metavar="NAME", completes="attention")
    slot: str = option(
        "encoder_self",
        help="encoder_self, decoder_self or decoder_cross.",
        metavar="SLOT",
        choices=SLOTS,
        completes="choices",
    )
    parameters: tuple[str, ...] = option(
        (), name="set", help="Parameters of the class: window=7 hashes=2.", metavar="PARAMETER=VALUE ..."
    )


def check(options: CheckOptions, call: Invocation) -> int:
    """Check an attention in under a minute: its correctness, cost and receptive field.

    The exit code is 1 if a check fails.
    """
    model_with_attention(options.slot, options.name, options.parameters)  # refuses before torch is imported

    began = time.perf_counter()

    from bench import attention_layer
    from bench.environment import raise_malloc_thresholds
    from experiments.tables.baselines import timed_baselines

    budget = attention_layer.TimeBudget(attention_layer.CHECK_SECONDS - (time.perf_counter() - began))
    raise_malloc_thresholds()
    subject = attention_layer.attention_from_options(options.slot, options.name, options.parameters)
    others = [name for name in timed_baselines(options.slot) if name != options.name]
    beside = [attention_layer.attention_from_options(options.slot, name, []) for name in others]
    lines = attention_layer.check_attention(
        subject, beside=beside, say=lambda line: print(line, flush=True), budget=budget
    )
    print(attention_layer.summary_line(lines, time.perf_counter() - began))
    return FAILED if any(line.status == "FAIL" for line in lines) else DONE


VERB = Verb(
    name="check",
    run=check,
    options=CheckOptions,
    group="Model",
    summary="Check an attention in under a minute",
    example="check longformer --set window=7",
    spread="--set",
    user_code=lambda options: options.name if ":" in options.name else "",
)
