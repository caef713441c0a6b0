"""Lets timm be imported with a torch for which torchvision's compiled library does not load."""

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
    """Declare torchvision's missing operators; call before the first import of torchvision or timm.

    A second call does nothing.

    torchvision's import fails with `operator torchvision::nms does not exist` if its library cannot be loaded, although
    nothing here calls that operator. Only then two schemas are declared.

    Returns:
        The library that holds the schemas, kept alive by a cache; None if torchvision's own library loads.
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
