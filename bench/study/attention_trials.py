"""Users' attentions are tried before they train: a failure is a warning, at the start and in the study's report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.child_process import ChildOutcome, run_child
from bench.launchers.process import worker_environment
from bench.results.attention_trials import is_tried, trial_warnings, trials_of, write_trial

TASK = "bench.attention_layer.trial"
SECONDS = 90.0  # that a trial may take; usual are some, most of them for importing torch


def try_attentions(
    out: Path, specs: Sequence[Mapping[str, Any]], say: Callable[[str], None], *, seconds: float = SECONDS
) -> None:
    """Try each user's attention in a process of its own, once, and say what is wrong with it.

    Args:
        out: Folder of the study, which keeps what is found.
        specs: The jobs due.
        say: Takes lines for the user.
        seconds: What each may take.
    """
    for spec in specs:
        for trial in trials_of([spec]):
            if not is_tried(out, trial.key):
                say(
                    f"trying {trial.attention} in {trial.slot}: shapes, finite results, determinism, batch independence"
                )
                outcome = run_child(
                    TASK,
                    {"settings": spec["settings"], "slot": trial.slot},
                    variables=worker_environment(spec, gpu=""),
                    capture=True,
                    seconds=seconds,
                )
                if outcome.interrupted:
                    raise KeyboardInterrupt
                write_trial(out, trial, _findings(outcome, seconds), ended=not outcome.timed_out)
    for warning in trial_warnings(out, specs):
        say(f"warning: {warning}")


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
