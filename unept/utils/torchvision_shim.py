"""Lets timm be imported beside a torch for which torchvision's compiled part does not load."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def ensure() -> torch.library.Library | None:
    """Call before the first import of torchvision or timm; a second call does nothing.

    torchvision's import ends with `operator torchvision::nms does not exist` where its library cannot be loaded, though
    nothing here calls that operator. Then, and only then, two schemas are declared; the library that holds them is
    returned and kept.
    """
    spec = importlib.util.find_spec("torchvision")
    folders = spec.submodule_search_locations if spec else None
    libraries = [path for folder in folders or () for path in sorted(Path(folder).glob("_C.*"))]
    try:
        for path in libraries:
            torch.ops.load_library(path)
    except OSError:
        declared = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            declared.define(schema)
        return declared
    return None
