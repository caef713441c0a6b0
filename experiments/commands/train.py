"""`unept-bench train`: train one model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.config.grid import parse_axes
from bench.config.option_fields import option
from bench.training.options import TrainOptions, training_base
from experiments.commands.console import DONE, FAILED, INTERRUPTED, NAME, Invocation, print_lines, print_progress
from experiments.commands.options import Verb, own_slots

if TYPE_CHECKING:
    from bench.training.job import TrainingJob


@dataclass(frozen=True, kw_only=True)
class TrainCommandOptions(TrainOptions):
    """A training's options, and whether it is only estimated."""

    dry_run: bool = option(False, help="Only say schedule, memory and time.")


def train(options: TrainCommandOptions, call: Invocation) -> int:
    """Train one model, on one device or many, and save it with its scores. The same command continues.

    Under torchrun, leave --gpus away.
    """
    if options.fields:
        parse_axes(options.fields)
    training_base(options)

    from bench.training.job import MODEL_FILE, build_training_job  # torch is imported once the arguments are right

    training = build_training_job(replace(options, command=call.command), dry_run=options.dry_run)

    from bench import environment
    from bench.profiling import training_estimate
    from bench.training import session
    from bench.training.loop import TrainingStopped
    from bench.training.spawn import TrainingDiverged, TrainingFailed

    if options.dry_run:
        print_lines(training_estimate.training_estimate_lines(training))
        return DONE
    warnings = _try_attentions(training)
    try:
        result = session.run_training(training, log=print_progress)
    except TrainingStopped as stop:
        if environment.is_main_process():
            steps = training.settings.train.steps
            print_progress(f"{NAME}: stopped after step {stop} of {steps}; the same command continues")
        return INTERRUPTED
    except TrainingDiverged as failure:
        model = training.out / MODEL_FILE
        left = f"{model} is what it ended with, and has no scores" if model.exists() else "no model is saved"
        print_progress(f"{NAME}: the training has diverged: {failure}; {left}")
        return FAILED
    except TrainingFailed as failure:
        print_progress(f"{NAME}: {failure}; the same command continues from the last checkpoint")
        return FAILED
    if environment.is_main_process():
        print_lines([*session.training_summary(training, result), *warnings])
    return DONE


def _try_attentions(training: TrainingJob) -> list[str]:
    """Try the user's attentions of a training that is not done, and return a line for each failure.

    Raises:
        ValueError: For a folder of something else, and an attention that comes to no end.
    """
    from bench import environment
    from bench.results.attention_trials import trial_warnings
    from bench.training.job import RESULT_FILE, read_training_record, trial_spec

    spec = trial_spec(training)
    if not spec or not environment.is_main_process():
        return []
    read_training_record(training)
    if not (training.out / RESULT_FILE).exists():
        from bench.study.attention_trials import try_attentions

        variables = environment.thread_variables(training.threads) | {"UNEPT_BACKEND": training.backend}
        for reason in try_attentions(training.out, [spec], print_progress, variables=variables).values():
            raise ValueError(reason)
    return [f"warning: {warning}" for warning in trial_warnings(training.out, [spec])]


VERB = Verb(
    name="train",
    run=train,
    options=TrainCommandOptions,
    group="Model",
    summary="Train one model and save it with its scores",
    example="train --data ade20k:PATH --backbone deit --profile paper --gpus 8",
    spread="--set",
    user_code=lambda options: own_slots(options.fields),
)
