"""Checks of variants against models, data and machine that need no training, and the defaults that depend on them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from bench.config.grid import Variant, prefix_variant, validate_settings
from bench.config.settings import Settings


def read_class_names(base: Settings, *, given: bool) -> tuple[str, ...]:
    """The classes of the data set, from its files' names alone; `given` tells whether the user named the data."""
    from unept.data import open_data

    try:
        return open_data(base.data, "train", base.scenes).classes
    except ValueError as error:
        hint = "" if given else "; the preset looks there, name another place with --data"
        raise ValueError(f"{error}{hint}") from None


def check_variants(variants: Sequence[Variant]) -> None:
    """Build each variant's model without weights in memory, so that what cannot exist is refused before a day is spent.

    A user's own module that fails in another way than by ValueError is left to its run, which then has a row.
    """
    import torch

    import unept

    for variant in variants:
        settings = variant.settings
        try:
            validate_settings(settings)
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                unept.build(settings.model, weights=settings.train.backbone_weights)
        except ValueError as error:
            raise ValueError(prefix_variant(variant.name, error)) from None
        except Exception:
            continue


def check_data_sets(variants: Sequence[Variant]) -> None:
    """Read the data set once for each protocol that the variants have. Raises ValueError that names the file."""
    from unept.data import check_data

    for variant in variants:
        settings = variant.settings
        splits = tuple(dict.fromkeys(("train", settings.evaluation.split)))
        check_data(settings.data, settings.scenes, splits=splits, classes=settings.model.classes)


def resolve_backend(name: str) -> str:
    """The attention backend that `name` stands for on this machine; compiled where that is due. Raises ValueError."""
    import torch

    from unept.ops import resolve

    try:
        return resolve(name, device="cuda" if torch.cuda.is_available() else "cpu").name
    except ValueError as error:
        raise ValueError(f"--backend {name}: {error}") from None


def default_study_folder(preset_name: str, data: str) -> Path:
    """`study/PRESET-DATA`: commands with the same preset and data share a folder, and with it the runs they share."""
    kind, _, path = data.partition(":")
    name = Path(path.partition("?")[0]).name if path else kind
    return Path("study") / f"{preset_name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or kind}"


def visible_gpus() -> tuple[str, ...]:
    """The GPUs that torch finds here, each as CUDA_VISIBLE_DEVICES names it; empty where there is none."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if given is None else given.split(",")
    return tuple(name.strip() for name in names[:count])
