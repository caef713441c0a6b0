"""How a picture is evaluated: whole or by sliding windows, at which sizes, mirrored or not."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.config.presets import preset
from bench.config.settings import EvalConfig, Settings
from bench.units import GIB
from unept.inference import Prediction, predict, predict_labels

# Long and short side at ratio 1 of the paper's three data sets, by their number of classes (spec section 2).
BASE_OF_CLASSES = {150: (2048, 512), 60: (520, 520), 19: (2048, 1024)}
DATA_WITHOUT_SIZE = ("scenes", "folder")  # kinds of data without a published size
MAX_PROBABILITY_BYTES = GIB  # of a picture's probabilities; larger ones are made band by band where that takes less

Bytes = npt.NDArray[np.uint8]


class LabelMaps(NamedTuple):
    """The most probable class of each pixel, uint8 (H, W); `refined` is None where the model does not refine."""

    plain: Bytes
    refined: Bytes | None


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """The arguments of `unept.inference.predict`; `base` is (long side, short side) in pixels, None the own size."""

    mode: Literal["whole", "slide"] = "slide"
    window: int = 480
    stride: int = 160
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    base: tuple[int, int] | None = None

    def predict(self, model: nn.Module, image: Bytes) -> Prediction:
        """Averaged probabilities of one picture, uint8 RGB (H, W, 3), on the model's device. Raises ValueError."""
        return predict(model, image, **self.keywords())

    def predict_labels(self, model: nn.Module, image: Bytes, classes: int) -> LabelMaps:
        """The most probable class of each pixel, whatever the picture's size."""
        if self._by_bands(image, classes):
            banded = predict_labels(model, image, **self.keywords())
            return LabelMaps(_bytes(banded.labels), None if banded.refined is None else _bytes(banded.refined))
        found = self.predict(model, image)
        refined = None if found.refined is None else argmax_labels(found.refined)
        return LabelMaps(argmax_labels(found.probabilities), refined)

    def describe(self) -> str:
        """`slide 480/160, scales 0.5 1, flipped too, base 2048x512`, for headers."""
        how = f"slide {self.window}/{self.stride}" if self.mode == "slide" else "whole"
        scales = " ".join(f"{scale:g}" for scale in self.scales)
        base = f"base {self.base[0]}x{self.base[1]}" if self.base else "own size"
        plural = "s" * (len(self.scales) > 1)
        return f"{how}, scale{plural} {scales}, {'flipped too' if self.flip else 'not flipped'}, {base}"

    def keywords(self) -> dict[str, Any]:
        """As keywords."""
        names = ("mode", "window", "stride", "scales", "flip", "base")
        return {name: getattr(self, name) for name in names}

    def _by_bands(self, image: Bytes, classes: int) -> bool:
        """Whether the probabilities of the picture are too large to hold, and a row of windows of each pass is less."""
        height, width = image.shape[:2]
        passes = len(self.scales) * (1 + self.flip)
        whole = 4 * classes * height * width
        return self.mode == "slide" and whole > MAX_PROBABILITY_BYTES and passes * self.window < height


def protocol_of_settings(settings: Settings, *, quick: bool = False) -> EvaluationProtocol:
    """The protocol of a run; `quick`, its single scale without flip."""
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
    """One pass by windows of a training crop's `size` every third of it; `base` as a checkpoint's facts have it."""
    sides = base if isinstance(base, list | tuple) and len(base) == 2 else None
    fits = sides is not None and all(type(side) is int and side > 0 for side in sides)
    return EvaluationProtocol(
        window=size, stride=max(1, size // 3), base=(sides[0], sides[1]) if fits and sides else None
    )


def published_protocol(data: str, size: int, base: Any = None) -> EvaluationProtocol:
    """The paper's: six scales, mirrored too, windows of a training crop every third of it (480/160 and 768/256).

    Ratio 1 is the published size of the data set that `data` names, and `base` for data that have none.
    """
    recipe = preset("paper", data)
    if data.partition(":")[0] not in DATA_WITHOUT_SIZE:
        base = (recipe.train.base_long, recipe.train.base_short)
    test: EvalConfig = recipe.evaluation
    return replace(single_scale_protocol(size, base), mode=test.mode, scales=test.scales, flip=test.flip_test)


def argmax_labels(probabilities_KHW: Tensor) -> Bytes:
    """The class of the largest probability, uint8 (H, W)."""
    return _bytes(probabilities_KHW.max(0).indices)  # argmax over channels is ten times slower


def _bytes(labels_HW: Tensor) -> Bytes:
    return labels_HW.to(torch.uint8).cpu().numpy()
