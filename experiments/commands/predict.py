"""`unept-bench predict`: draw what a checkpoint sees in pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.config.option_fields import argument, option
from bench.evaluation.image_paths import image_paths
from bench.evaluation.options import PredictRequest, check_prediction
from experiments.commands.console import DONE, FAILED, NAME, Invocation, check_checkpoints, print_progress
from experiments.commands.options import Verb
from unept.data.image_file import open_file

if TYPE_CHECKING:
    from bench.evaluation.predict import Predictor


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PredictRequest):
    """A prediction's options, its pictures and the folder of the drawings."""

    path: Path = argument(help="A picture, or a folder of pictures.", metavar="PICTURE|FOLDER", completes="files")
    out: Path = option(help="Folder of the drawings.", metavar="FOLDER", completes="files", writes="folder")


def predict(options: PredictOptions, call: Invocation) -> int:
    """Draw what a checkpoint sees in pictures: classes, boundaries, directions, before and after refinement.

    A file that cannot be read is named and the others go on; the exit code is then 1. A checkpoint with an output that
    is not finite is refused.
    """
    if len(options.checkpoints) > 2:
        raise ValueError(f"--checkpoint: {len(options.checkpoints)} files; expected one, or two to put side by side")
    if not options.path.exists():
        raise ValueError(f"{options.path}: no such picture or folder")
    check_prediction(options)
    check_checkpoints(options.checkpoints)
    if not options.path.is_dir():
        open_file(options.path).close()  # a pipe or a device is refused before a model is loaded

    files = image_paths(options.path, options.out)

    from bench.evaluation.predict import load_predictors
    from unept.utils.finite import NonFiniteError

    try:
        refused = draw_all(load_predictors(options), files, options.out, options.max_pixels)
    except NonFiniteError as error:  # the checkpoint's fault, not the picture's
        raise ValueError(str(error)) from None
    print(f"{len(files) - refused} of {len(files)} pictures: {options.out}")
    return FAILED if refused else DONE


def draw_all(predictors: Sequence[Predictor], files: Mapping[str, Path], out: Path, max_pixels: int) -> int:
    """Predict and draw each picture; returns how many could not be read."""
    from bench.evaluation.predict import predict_image
    from bench.launchers.progress import ProgressCounter

    if any(predictor.classes != predictors[0].classes for predictor in predictors):
        name = predictors[0].name
        print_progress(f"{NAME}: the checkpoints call their classes otherwise; the names are those of {name}")
    refused = 0
    with ProgressCounter("predicting") as counter:
        for number, (name, path) in enumerate(files.items(), 1):
            try:
                photo, predictions = predict_image(path, predictors, max_pixels)
            except ValueError as error:
                refused += 1
                print_progress(f"{NAME}: {error}")
                continue
            if photo.changed:
                print_progress(f"{path}: {', '.join(photo.changed)}")
            _draw(photo, predictions, predictors, name, out)
            counter(number, len(files))
    return refused


def _draw(photo: Any, predictions: Mapping[str, Any], predictors: Sequence[Predictor], name: str, out: Path) -> None:
    """Write the drawings of one picture, by checkpoint where there are two, and then one of both."""
    from bench.evaluation.predict import direction_colours
    from reports import write_files
    from reports.pages import predictions as pages

    classes, palette, stem = predictors[0].classes, predictors[0].palette, Path(name).name
    for checkpoint, prediction in predictions.items():
        drawings = pages.prediction_files(
            photo.image, **prediction._asdict(), classes=classes, palette=palette, wheel=direction_colours()
        )
        folder = (out / checkpoint / name if len(predictors) > 1 else out / name).parent
        write_files(folder, {f"{stem}-{end}": data for end, data in drawings.items()})
    if len(predictors) > 1:
        best = {checkpoint: prediction.best for checkpoint, prediction in predictions.items()}
        figure = pages.comparison_figure(photo.image, best, classes=classes, palette=palette)
        write_files((out / name).parent, {f"{stem}-compare.png": figure})


VERB = Verb(
    name="predict",
    run=predict,
    options=PredictOptions,
    group="Model",
    summary="Draw what a checkpoint sees in pictures",
    example="predict photo.jpg --checkpoint model.safetensors --out drawn",
    user_code=lambda options: "--own-modules" if options.own_modules else "",
)
