"""Data sets and the training pipeline. `open_data` reads a specification such as `scenes` or `folder:PATH`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unept.data.sample import IGNORE, Dataset, Sample
from unept.data.scenes import SceneConfig
from unept.data.source import check_data, open_data

if TYPE_CHECKING:
    from unept.data.pipeline import Batches, TrainPipeline

__all__ = ["IGNORE", "Batches", "Dataset", "Sample", "SceneConfig", "TrainPipeline", "check_data", "open_data"]


def __getattr__(name: str) -> Any:
    """Load the pipeline, and mmcv with it, only for those who train."""
    if name in ("Batches", "TrainPipeline"):
        from unept.data import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
