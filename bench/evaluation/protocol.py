"""Protocol of an evaluation: whole images or sliding windows, at which sizes, mirrored or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.config.presets import preset
from bench.config.settings import EvalConfig, Settings
from bench.units import GIB
from unept.attention import is_batch_independent
from unept.config import SLOTS, ModelConfig
from unept.inference import Prediction, predict, predict_labels, predict_labels_together, scaled

# Long and short side at ratio 1 of the paper's three data sets, by their number of classes (spec section 2).
BASE_OF_CLASSES = {150: (2048, 512), 60: (520, 520), 19: (2048, 1024)}
DATA_WITHOUT_SIZE = ("scenes", "folder")  # kinds of data without a published size
TOGETHER, TOGETHER_PIXELS = 16, 1 << 17  # pictures that a model sees in one call, and their pixels, at most
MAX_PROBABILITY_BYTES = GIB  # of a picture's probabilities; larger ones are made band by band where that takes less

Bytes = npt.NDArray[np.uint8]


class LabelMaps(NamedTuple):
    """Most probable class of each pixel, uint8 (H, W); `refined` is None where the model does not refine."""

    plain: Bytes
    refined: Bytes | None


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """Arguments of `unept.inference.predict`.

    Attributes:
        mode: `slide` over windows, or the `whole` image at once.
        window: Side of a window, in pixels.
        stride: Distance of two windows, in pixels.
        scales: Sizes to average over, as ratios of the base.
        flip: Average with the mirrored image too.
        base: Long and short side in pixels at scale 1; None for each image's own size.
    """

    mode: Literal["whole", "slide"] = "slide"
    window: int = 480
    stride: int = 160
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    base: tuple[int, int] | None = None

    def predict(self, model: nn.Module, image: Bytes) -> Prediction:
        """Return the averaged probabilities of one image, on the model's device.

        Args:
            model: A network that `unept.inference.predict` takes.
            image: RGB, uint8 (H, W, 3).

        Raises:
            ValueError: The protocol does not fit the image.
        """
        return predict(model, image, **self.keywords())

    def predict_labels(self, model: nn.Module, image: Bytes, classes: int) -> LabelMaps:
        """Return the most probable class of each pixel, whatever the image's size.

        Args:
            model: A network that `unept.inference.predict` takes.
            image: RGB, uint8 (H, W, 3).
            classes: Number of classes; decides whether probabilities are made band by band.
        """
        if self._by_bands(image, classes):
            banded = predict_labels(model, image, **self.keywords())
            return LabelMaps(_bytes(banded.labels), None if banded.refined is None else _bytes(banded.refined))
        prediction = self.predict(model, image)
        refined = None if prediction.refined is None else argmax_labels(prediction.refined)
        return LabelMaps(argmax_labels(prediction.probabilities), refined)

    def predict_labels_together(self, model: nn.Module, images: Sequence[Bytes]) -> list[LabelMaps] | None:
        """Return what `predict_labels` returns of each picture, to rounding, from one call of the model.

        Args:
            model: A network that `unept.inference.predict` takes.
            images: RGB, uint8 (H, W, 3).

        Returns:
            None where it takes a call for each: for pictures that are not of one size, too large, or not evaluated
            whole and as they are. The caller sees to it that the model does not mix the images of a batch.

        Raises:
            NonFiniteError: An output of any of them is not finite.
        """
        height, width = images[0].shape[:2]
        alike = len({image.shape for image in images}) == 1 and len(images) * height * width <= TOGETHER_PIXELS
        kept = scaled(height, width, 1.0, self.base) == (height, width)
        if not (alike and kept and self.is_single_pass):
            return None
        labelled = predict_labels_together(model, np.stack(images))
        return [LabelMaps(_bytes(one.labels), None if one.refined is None else _bytes(one.refined)) for one in labelled]

    @property
    def is_single_pass(self) -> bool:
        """True if a picture is evaluated once, whole."""
        return self.mode == "whole" and self.scales == (1.0,) and not self.flip

    def describe(self) -> str:
        """Return `slide 480/160, scales 0.5 1, flipped too, base 2048x512`, for headers."""
        how = f"slide {self.window}/{self.stride}" if self.mode == "slide" else "whole"
        scales = " ".join(f"{scale:g}" for scale in self.scales)
        base = f"base {self.base[0]}x{self.base[1]}" if self.base else "own size"
        plural = "s" * (len(self.scales) > 1)
        return f"{how}, scale{plural} {scales}, {'flipped too' if self.flip else 'not flipped'}, {base}"

    def keywords(self) -> dict[str, Any]:
        """Return the protocol as keyword arguments."""
        names = ("mode", "window", "stride", "scales", "flip", "base")
        return {name: getattr(self, name) for name in names}

    def _by_bands(self, image: Bytes, classes: int) -> bool:
        """Return True where the image's probabilities are too large to hold, and a row of windows of each pass
        is less.
        """
        height, width = image.shape[:2]
        passes = len(self.scales) * (1 + self.flip)
        whole = 4 * classes * height * width
        return self.mode == "slide" and whole > MAX_PROBABILITY_BYTES and passes * self.window < height


def is_model_batch_independent(model: nn.Module) -> bool:
    """Return True if a UN-EPT model has attentions alone that are known not to mix the images of a batch."""
    config = getattr(model, "config", None)
    return (
        isinstance(config, ModelConfig)
        and config.architecture == "unept"
        and all(is_batch_independent(getattr(config, slot)) for slot in SLOTS)
    )


def protocol_of_settings(settings: Settings, *, quick: bool = False) -> EvaluationProtocol:
    """Return the protocol of a run; with `quick`, its single scale without flip."""
    protocol = settings.evaluation
    return EvaluationProtocol(
        mode=protocol.mode,
        window=protocol.window,
        stride=protocol.stride,
        scales=(1.0,) if quick else protocol.scales,
        flip=protocol.flip_test and not quick,
        base=(settings.train.base_long, settings.train.base_short),
    )


def single_scale_protocol(size: int, base: Any = None) -> EvaluationProtocol:
    """Return one pass by windows of a training crop's size, every third of it.

    Args:
        size: Side of the training crops, in pixels.
        base: Long and short side in pixels as a checkpoint's facts have it; anything else means the own size.
    """
    sides = base if isinstance(base, list | tuple) and len(base) == 2 else None
    fits = sides is not None and all(type(side) is int and side > 0 for side in sides)
    return EvaluationProtocol(
        window=size, stride=max(1, size // 3), base=(sides[0], sides[1]) if fits and sides else None
    )


def published_protocol(data: str, size: int, base: Any = None) -> EvaluationProtocol:
    """Return the paper's protocol: six scales, mirrored too, windows of a training crop every third of it.

    That is 480/160 and 768/256. Scale 1 is the published size of the data set, and `base` for data that have none.

    Args:
        data: Specification of the data set, `kind:PATH`.
        size: Side of the training crops, in pixels.
        base: Long and short side in pixels for data without a published size.
    """
    recipe = preset("paper", data)
    if data.partition(":")[0] not in DATA_WITHOUT_SIZE:
        base = (recipe.train.base_long, recipe.train.base_short)
    test: EvalConfig = recipe.evaluation
    return replace(single_scale_protocol(size, base), mode=test.mode, scales=test.scales, flip=test.flip_test)


def argmax_labels(probabilities_KHW: Tensor) -> Bytes:
    """Return the class of the largest probability, uint8 (H, W)."""
    return _bytes(probabilities_KHW.max(0).indices)  # argmax over channels is ten times slower


def _bytes(labels_HW: Tensor) -> Bytes:
    return labels_HW.to(torch.uint8).cpu().numpy()
