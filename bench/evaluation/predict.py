"""Prediction of images by a checkpoint: classes before and after refinement, boundaries and directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.evaluation.multi_process.request import resolve_device, short_names
from bench.evaluation.multi_process.work import with_refinement
from bench.evaluation.options import PredictRequest
from bench.evaluation.protocol import Bytes, EvaluationProtocol, argmax_labels, single_scale_protocol
from bench.launchers.worker import is_allocation_failure
from unept.boundary import OFFSETS
from unept.checkpoints import model_file
from unept.data.contact_sheet import WHEEL
from unept.data.image_file import MAX_PIXELS
from unept.data.load_image import Photo, read_photo
from unept.model import UNEPT
from unept.utils.finite import non_finite_in

IMPOSSIBLE_LOGIT = -1e4  # a logit whose probability is 0


class ImagePrediction(NamedTuple):
    """Prediction of one image.

    Attributes:
        plain: Classes, uint8 (H, W).
        refined: Classes after refinement, uint8 (H, W); None where the model has no heads for it.
        boundary: Boundary probability, float32 (H, W); None likewise.
        direction: Direction 0 to 7, uint8 (H, W); None likewise.
    """

    plain: Bytes
    refined: Bytes | None
    boundary: npt.NDArray[np.float32] | None
    direction: Bytes | None

    @property
    def best(self) -> Bytes:
        """The refined classes where there are any, else the plain ones."""
        return self.plain if self.refined is None else self.refined


class Predictor:
    """One checkpoint, ready for images; `name` is short and unique among those of the command."""

    def __init__(
        self, name: str, path: Path, checkpoint: model_file.SavedModel, protocol: EvaluationProtocol, device: str
    ) -> None:
        self.name = name
        self.path = path
        self.classes = checkpoint.classes
        self.palette = checkpoint.palette
        self.protocol = protocol
        self.model = with_refinement(checkpoint.model).to(device)
        has_heads = isinstance(self.model, UNEPT) and self.model.mask_head is not None
        self.heads = (
            BoundaryDirectionHeads(self.model, len(checkpoint.classes)).to(device).eval() if has_heads else None
        )

    def __call__(self, image: Bytes) -> ImagePrediction:
        """Predict an RGB image, uint8 (H, W, 3)."""
        labels = self.protocol.predict_labels(self.model, image, len(self.classes))
        if self.heads is None:
            return ImagePrediction(labels.plain, labels.refined, None, None)
        once = replace(self.protocol, scales=(1.0,), flip=False)
        maps = once.predict(self.heads, image)
        assert maps.refined is not None
        return ImagePrediction(
            labels.plain, labels.refined, maps.refined[1].cpu().numpy(), argmax_labels(maps.probabilities)
        )


class BoundaryDirectionHeads(nn.Module):
    """The boundary and direction heads of a UN-EPT as a model that `unept.inference` can slide over an image.

    Its `logits` are those of the eight directions and its `refined` those of (no boundary, boundary), both at the
    input's size as the refinement reads them (bilinear, corners aligned).
    """

    def __init__(self, model: nn.Module, classes: int) -> None:
        super().__init__()
        self.model = model
        self.classes = classes

    def forward(self, image_B3HW: Tensor) -> _Maps:
        """Return two maps of eight channels, (B, 8, H, W)."""
        output = self.model(image_B3HW)
        boundary, direction = (
            F.interpolate(maps, size=image_B3HW.shape[2:], mode="bilinear", align_corners=True)
            for maps in (output.boundary, output.direction)
        )
        if boundary.shape[1] == 1:
            boundary = torch.cat([torch.zeros_like(boundary), boundary], 1)
        rest = boundary.new_full((1, direction.shape[1] - 2, 1, 1), IMPOSSIBLE_LOGIT).expand(
            len(boundary), -1, *boundary.shape[2:]
        )
        return _Maps(direction, torch.cat([boundary, rest], 1))


class _Maps(NamedTuple):
    logits: Tensor
    refined: Tensor | None


def load_predictors(request: PredictRequest) -> list[Predictor]:
    """Load the checkpoints of a request.

    Raises:
        ValueError: A file cannot be read (the message names it), or two differ in the number of classes.
    """
    device = resolve_device(request.device)
    checkpoints = [model_file.load_model(path, own_modules=request.own_modules) for path in request.checkpoints]
    counts = {len(checkpoint.classes) for checkpoint in checkpoints}
    if len(counts) > 1:
        raise ValueError(
            f"checkpoints of {' and '.join(map(str, sorted(counts)))} classes: side by side they need as many"
        )
    loaded = []
    names = short_names(request.checkpoints)
    for name, path, checkpoint in zip(names, request.checkpoints, checkpoints, strict=True):
        protocol = request.overrides.over(single_scale_protocol(checkpoint.config.size, checkpoint.facts.get("base")))
        loaded.append(Predictor(name, path, checkpoint, protocol, device))
    return loaded


def predict_image(
    path: Path, predictors: Sequence[Predictor], max_pixels: int = MAX_PIXELS
) -> tuple[Photo, dict[str, ImagePrediction]]:
    """Read an image and return it with each checkpoint's prediction, by name.

    Another error of a model is not the image's fault, and is raised as it is.

    Args:
        path: The image.
        predictors: The checkpoints.
        max_pixels: A picture of more pixels is refused.

    Raises:
        ValueError: The file cannot be read, or memory does not suffice; the message names it.
        NonFiniteError: An output is not finite; the message names the checkpoint and the image.
    """
    try:
        photo = read_photo(path, max_pixels)
        predictions = {}
        for predictor in predictors:
            with non_finite_in(f"{predictor.path}: not drawn, {path}"):
                predictions[predictor.name] = predictor(photo.image)
        return photo, predictions
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, MemoryError) or is_allocation_failure(str(error)):
            raise ValueError(f"{path}: not enough memory for a picture of this size") from None
        raise


def direction_colours() -> Sequence[tuple[int, int, tuple[int, int, int]]]:
    """Return what the direction map's values are: (down, right, colour) of each of the eight."""
    return [(down, right, colour) for (down, right), colour in zip(OFFSETS, WHEEL, strict=True)]
