"""`unept-bench train`: train one model."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.config.grid import parse_axes
from bench.config.option_fields import option
from bench.training.options import TrainOptions, training_base
from experiments.commands.console import DONE, FAILED, INTERRUPTED, NAME, Invocation, print_lines, print_progress
from experiments.commands.options import Verb


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
        print_lines(session.training_summary(training, result))
    return DONE


VERB = Verb(
    name="train",
    run=train,
    options=TrainCommandOptions,
    group="Model",
    summary="Train one model and save it with its scores",
    example="train --data ade20k:PATH --backbone deit --profile paper --gpus 8",
    spread="--set",
)
