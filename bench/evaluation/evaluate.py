"""Scores of a model: the full protocol at the end of a run, and probes on a few images while it trains.

Probes read the weights and leave no trace in the run: same numbers with and without them.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from bench.config.settings import Settings
from bench.distributed import SINGLE, ProcessGroup
from bench.evaluation.boundary_metrics import SIZE_LIMITS, BoundaryScorer
from bench.evaluation.cue_metrics import CueScorer
from bench.evaluation.metrics import ConfusionMatrix
from bench.evaluation.protocol import (
    TOGETHER,
    EvaluationProtocol,
    LabelMaps,
    is_model_batch_independent,
    protocol_of_settings,
)
from unept.data import IGNORE, Dataset, open_data
from unept.data.sample import Sample
from unept.data.scenes_v2 import ScenesV2
from unept.utils.atomic_files import atomic_write
from unept.utils.finite import NonFiniteError, non_finite_in

PROBE_COLUMNS = ("step", "miou", "lookalike_accuracy")

Progress = Callable[[int, int, str], None]
Bytes = npt.NDArray[np.uint8]


class Evaluation(NamedTuple):
    """Result of the full protocol: `metrics` (fractions), `facts` about how they were made, and the kept image
    arrays.
    """

    metrics: dict[str, Any]
    facts: dict[str, Any]
    pictures: dict[str, npt.NDArray[Any]]


@torch.inference_mode()
def evaluate_model(
    model: nn.Module, settings: Settings, *, progress: Progress, group: ProcessGroup = SINGLE
) -> Evaluation:
    """Score `model` by the protocol. Fractions; refined scores are None where refinement is off.

    Several processes take turns at the pictures and all have the scores, to the bit those of one process; a kept
    picture is with the process that evaluated it.

    Raises:
        NonFiniteError: An output is not finite; the message names the image.
    """
    dataset, count = _split(settings, settings.evaluation.images)
    kept = evenly_spaced(count, settings.evaluation.keep)
    classes = len(dataset.classes)
    plain, refined = BoundaryScorer(classes, IGNORE), BoundaryScorer(classes, IGNORE, regions=False)
    pictures: dict[str, npt.NDArray[Any]] = {
        "index": np.array(kept, dtype=np.int64),
        "classes": np.array(dataset.classes),
        "palette": np.array(dataset.palette, dtype=np.uint8),
    }
    protocol = protocol_of_settings(settings)
    cues = CueScorer(dataset.lookalikes)
    model.eval()
    for index, sample, labels in _labelled(model, dataset, count, protocol, group):
        plain.add(sample.label, labels.plain)
        if isinstance(dataset, ScenesV2):
            cues.add(sample.label, labels.plain, dataset.cue_distance(index))
        maps = {"image": sample.image, "truth": sample.label, "prediction": labels.plain}
        if labels.refined is not None:
            maps["refined"] = labels.refined
            refined.add(sample.label, labels.refined)
        if index in kept:
            slot = kept.index(index)
            pictures |= {f"{name}_{slot}": array for name, array in maps.items()}
        if (index + 1) % max(1, count // 10) < group.size:
            progress(index + 1, count, "evaluating")
    others = [
        sums
        for rank, sums in enumerate(group.all_gather_objects((plain.sums(), refined.sums(), cues.sums())))
        if rank != group.rank
    ]
    for plain_sums, refined_sums, cue_sums in others:
        plain.merge(plain_sums)
        refined.merge(refined_sums)
        cues.merge(cue_sums)
    metrics = _metrics(plain, refined, dataset)
    if isinstance(dataset, ScenesV2):
        metrics |= cues.metrics(dataset.emblems, plain.confusion.counts.sum(1).tolist())
    return Evaluation(metrics, {"images": count} | _facts(plain), pictures)


@torch.inference_mode()
def probe_model(model: nn.Module, settings: Settings) -> list[float | None]:
    """Return mIoU and look-alike accuracy on the first images of the split, at one scale.

    The latter is None without look-alikes.

    Raises:
        NonFiniteError: An output is not finite; the message names the image.
    """
    dataset, count = _split(settings, settings.train.probe_images)
    confusion = ConfusionMatrix(len(dataset.classes), IGNORE)
    protocol = protocol_of_settings(settings, quick=True)
    was_training = model.training
    model.eval()
    for _, sample, labels in _labelled(model, dataset, count, protocol):
        confusion.add(sample.label, labels.plain)
    model.train(was_training)
    return [confusion.scores().miou, confusion.group_accuracy(dataset.lookalikes)]


def _labelled(
    model: nn.Module, dataset: Dataset, count: int, protocol: EvaluationProtocol, group: ProcessGroup = SINGLE
) -> Iterator[tuple[int, Sample, LabelMaps]]:
    """Yield index, sample and labels of a process's share of the first `count` pictures.

    Processes take turns at groups of pictures, the same for any number of them, so that results have the same bits.
    """
    together = TOGETHER if protocol.is_single_pass and is_model_batch_independent(model) else 1
    for start in range(group.rank * together, count, group.size * together):
        indices = range(start, min(start + together, count))
        samples = [dataset[index] for index in indices]
        yield from zip(indices, samples, _labels(model, samples, len(dataset.classes), protocol), strict=True)


def _labels(
    model: nn.Module, samples: Sequence[Sample], classes: int, protocol: EvaluationProtocol
) -> Iterator[LabelMaps]:
    """Yield the labels of each picture, from one call of the model where that is possible."""
    together = None
    with contextlib.suppress(NonFiniteError):  # one by one they tell which it is
        if len(samples) > 1:
            together = protocol.predict_labels_together(model, [sample.image for sample in samples])
    for position, sample in enumerate(samples):
        with non_finite_in(f"image {sample.name}"):
            yield together[position] if together else protocol.predict_labels(model, sample.image, classes)


def probe_steps(steps: int, probes: int) -> frozenset[int]:
    """Return the steps, of 1..`steps`, after which to probe: `probes` of them, evenly apart, the last one among
    them.
    """
    return frozenset(max(1, round(steps * (i + 1) / probes)) for i in range(probes))


def evenly_spaced(count: int, wanted: int) -> list[int]:
    """Return `wanted` of the numbers 0..`count` - 1, evenly apart, from the first on; all of them where there are
    fewer.
    """
    chosen = min(count, wanted)
    return [index * count // chosen for index in range(chosen)]


def save_pictures(path: Path, pictures: dict[str, npt.NDArray[Any]]) -> None:
    """Write the arrays as .npz, atomically."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, file.getvalue())


def _metrics(plain: BoundaryScorer, refined: BoundaryScorer, dataset: Dataset) -> dict[str, Any]:
    scores, after = plain.confusion.scores(), refined.confusion.scores()
    edges, edges_after = plain.scores(), refined.scores()
    return {
        "miou": scores.miou,
        "pixel_accuracy": scores.pixel_accuracy,
        "miou_refined": after.miou,
        "pixel_accuracy_refined": after.pixel_accuracy,
        "iou": dict(zip(dataset.classes, scores.iou, strict=True)),
        **edges.metrics(),
        "boundary_iou_refined": edges_after.boundary_iou,
        "boundary_f_refined": edges_after.boundary_f,
        "lookalike_accuracy": plain.confusion.group_accuracy(dataset.lookalikes),
    }


def _facts(scorer: BoundaryScorer) -> dict[str, Any]:
    """Return the pixels and shares that the boundary and size metrics were taken with."""
    scores = scorer.scores()
    return {
        "boundary_width_px": scores.boundary_width_px,
        "tolerance_px": scores.tolerance_px,
        "size_limits": SIZE_LIMITS,
    }


def _split(settings: Settings, wanted: int) -> tuple[Dataset, int]:
    """Return the split that is evaluated, and how many of its images: `wanted`, 0 for all."""
    dataset = open_data(settings.data, settings.evaluation.split, settings.scenes)
    return dataset, min(wanted or len(dataset), len(dataset))
