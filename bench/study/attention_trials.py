"""Users' attentions are tried before they train: a failure is a warning, at the start and in the study's report."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.child_process import ChildOutcome, run_child
from bench.launchers.process import worker_environment
from bench.results.attention_trials import is_tried, trial_warnings, trials_of, write_trial

TASK = "bench.attention_layer.trial"
SECONDS = 90.0  # that a trial may take; usual are some, most of them for importing torch


def try_attentions(
    out: Path,
    specs: Sequence[Mapping[str, Any]],
    say: Callable[[str], None],
    *,
    seconds: float = SECONDS,
    variables: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Try each user's attention in a process of its own, once, and say what is wrong with it.

    Args:
        out: Folder of the study or training, which keeps what is found.
        specs: The jobs due.
        say: Takes lines for the user.
        seconds: What each may take.
        variables: Environment of the process, which then imports the modules where this one finds them; None for that
            of a worker, which has the study's copies.

    Returns:
        Why an attention did not come to an end, by the name of the variant.
    """
    tried: dict[str, str] = {}
    endless = {}
    for spec in specs:
        for trial in trials_of([spec]):
            if trial.key not in tried and not is_tried(out, trial.key):
                say(
                    f"trying {trial.attention} in {trial.slot}: shapes, finite results, determinism, batch independence"
                )
                outcome = run_child(
                    TASK,
                    {"settings": spec["settings"], "slot": trial.slot},
                    variables=worker_environment(spec, gpu="") if variables is None else variables,
                    capture=True,
                    seconds=seconds,
                    path=None if variables is None else sys.path,
                )
                if outcome.interrupted:
                    raise KeyboardInterrupt
                findings = [*_findings(outcome, seconds)]
                write_trial(out, trial, findings, ended=not outcome.timed_out)
                tried[trial.key] = findings[-1] if outcome.timed_out else ""
            if tried.get(trial.key):
                endless[trial.variant] = f"{trial.attention} in {trial.slot}, when it was tried: {tried[trial.key]}"
    for warning in trial_warnings(out, specs):
        say(f"warning: {warning}")
    return endless


def _findings(outcome: ChildOutcome, seconds: float) -> Iterator[str]:
    result = outcome.result or {"lines": [], "at": "import"}
    for line in result["lines"]:
        if line["status"] == "FAIL":
            yield f"{line['name']}: {line['text']}"
    if outcome.timed_out:
        yield f"{result['at'] or 'its end'}: it did not come to an end within {seconds:.0f} s"
    elif result["at"]:
        last = (outcome.stderr.strip().splitlines() or [f"exit status {outcome.exit_status}"])[-1]
        yield f"{result['at']}: its process ended ({last[:200]})"
