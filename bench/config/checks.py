"""Checks of variants against models, data and machine that need no training, and defaults that depend on them."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import user_code
from bench.config.grid import Variant, prefix_variant, validate_settings
from bench.config.settings import Settings, settings_from_dict, settings_to_dict
from unept.config import SLOTS, ModelConfig
from unept.config_rules import check_weights


def read_class_names(base: Settings, *, named_by_user: bool) -> tuple[str, ...]:
    """Return the names of the data set's classes; only file names are read.

    Args:
        base: Settings that name the data set.
        named_by_user: True if the user named the data, False if the preset did; it decides the hint in the error.

    Raises:
        ValueError: If the data set is not there or has no classes.
    """
    from unept.data import open_data

    try:
        return open_data(base.data, "train", base.scenes).classes
    except ValueError as error:
        hint = "" if named_by_user else "; the preset looks there, name another place with --data"
        raise ValueError(f"{error}{hint}") from None


def check_variants(variants: Sequence[Variant]) -> None:
    """Build each variant's model on the meta device, so that an impossible one is refused before a long study.

    A model with a user's module is built in a process of its own. One that fails in another way than by ValueError is
    left to its run, which then has a row.

    Raises:
        ValueError: Led by the name of the variant.
    """
    for variant in variants:
        _check_without_building(variant)
    isolated = [variant for variant in variants if user_modules(variant.settings.model)]
    problems: dict[str, str] = {}
    if isolated:
        names = ", ".join(dict.fromkeys(name for variant in isolated for name in user_modules(variant.settings.model)))
        settings = [settings_to_dict(variant.settings) for variant in isolated]
        said = user_code.call_isolated("bench.config.checks:problems_of", settings, about=names)
        problems = {variant.name: problem for variant, problem in zip(isolated, said, strict=True)}
    for variant in variants:
        problem = problems[variant.name] if variant.name in problems else problem_of(variant.settings)
        if problem:
            raise ValueError(prefix_variant(variant.name, ValueError(problem)))


def user_modules(model: ModelConfig) -> list[str]:
    """Return the users' `module:Class` in the slots of a model."""
    return [name for slot in SLOTS if ":" in (name := getattr(model, slot))]


def problems_of(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return `problem_of` each of the settings, which are plain values."""
    return [problem_of(settings_from_dict(dict(one))) for one in settings]


def problem_of(settings: Settings) -> str:
    """Return why the model of settings cannot be built; "" where it can."""
    import torch

    from unept.model import build  # out of the try: a package that is missing is no matter of one variant

    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            build(settings.model, weights=settings.train.backbone_weights)
    except ValueError as error:
        return str(error)
    except Exception:
        pass
    return ""


def _check_without_building(variant: Variant) -> None:
    try:
        validate_settings(variant.settings)
        check_weights(variant.settings.train.backbone_weights)
    except ValueError as error:
        raise ValueError(prefix_variant(variant.name, error)) from None


def check_data_sets(variants: Sequence[Variant], *, read_files: bool = True) -> None:
    """Read each data set that the variants use, once per protocol.

    Args:
        variants: The variants.
        read_files: False to look at names alone.

    Raises:
        ValueError: Names the split that is missing or has no labels, or the damaged or missing file.
    """
    from unept.data import check_data

    for variant in variants:
        settings = variant.settings
        splits = tuple(dict.fromkeys(("train", settings.evaluation.split)))
        check_data(settings.data, settings.scenes, splits=splits, classes=settings.model.classes, read_files=read_files)


def resolve_backend(name: str) -> str:
    """Return the attention backend that `name` stands for on this machine; compiles it where that is due.

    Raises:
        ValueError: For a backend that is unknown or not available here.
    """
    import torch

    from unept.ops import resolve

    try:
        return resolve(name, device="cuda" if torch.cuda.is_available() else "cpu").name
    except ValueError as error:
        raise ValueError(f"--backend {name}: {error}") from None


def default_study_folder(preset_name: str, data: str) -> Path:
    """Return `study/PRESET-DATA`: studies of one preset and data set share a folder, and so their common runs."""
    from unept.data.scene_spec import is_generated

    kind, _, path = data.partition(":")
    name = Path(path.partition("?")[0]).name if path else kind
    if is_generated(data):
        name = data  # scenes-v2
    return Path("study") / f"{preset_name}-{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or kind}"


def visible_gpus() -> tuple[str, ...]:
    """Return the GPUs that torch finds here, each as CUDA_VISIBLE_DEVICES names it; () where there is none."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    configured = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [str(index) for index in range(count)] if configured is None else configured.split(",")
    return tuple(name.strip() for name in names[:count])
