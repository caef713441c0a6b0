"""UN-EPT models with their supervision and inference; importable on their own.

>>> import unept
>>> model = unept.build(unept.ModelConfig(backbone="tiny_conv", size=64, classes=8, width=64, heads=2, ffn=128))

Configurations come without torch; the models are imported when they are first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from unept.config import LossConfig, ModelConfig, paper_profile, released_profile

if TYPE_CHECKING:
    from unept.checkpoints.released_model import load_released
    from unept.model import UNEPT, Output, build

__all__ = [
    "UNEPT",
    "LossConfig",
    "ModelConfig",
    "Output",
    "build",
    "load_released",
    "paper_profile",
    "released_profile",
]

_HOMES = {
    "UNEPT": "unept.model",
    "Output": "unept.model",
    "build": "unept.model",
    "load_released": "unept.checkpoints.released_model",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
