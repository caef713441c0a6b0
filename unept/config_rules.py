"""The rules of a model's configuration, checked without building it: neither torch nor a user's class is imported."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from unept.attention_rules import RULES
from unept.catalogue import (
    ARCHITECTURES,
    BACKBONE_LEVELS,
    BACKBONES,
    IMAGENET,
    LITE0_PYPI,
    PUBLISHED_BACKBONES,
    WEIGHT_SUFFIXES,
    check_options,
    is_own_class,
    slot_attentions,
)
from unept.config import SLOTS, ModelConfig, options_of
from unept.utils.messages import nearest_clause
from unept.utils.user_code import has_safe_path, working_directory

CHOICES = {
    "offset_init": ("released", "scaled"),
    "queries": ("spatial", "embed", "both"),
    "boundary_head": ("binary", "two_class"),
    "edge_threshold": ("probability", "logit"),
    "position_resize": ("bilinear", "bicubic"),
}
COUNTS = ("classes", "size", "levels", "points", "heads", "width", "ffn", "decoder_layers", "head_width", "ffn_chunks")


def check_model_config(config: ModelConfig) -> None:
    """Check a configuration without building the model. ValueError for the first setting that is not possible."""
    if config.architecture != "unept":
        check_network(config)
        return
    check_backbone(config.backbone)
    for field, allowed in CHOICES.items():
        value = getattr(config, field)
        if value not in allowed:
            raise ValueError(
                f"{field} cannot be {value!r}{nearest_clause(str(value), allowed)}; it is one of {', '.join(allowed)}"
            )
    for field in COUNTS:
        if getattr(config, field) < 1:
            raise ValueError(f"{field}={getattr(config, field)}: at least 1")
    if config.encoder_layers < 0:
        raise ValueError(f"encoder_layers={config.encoder_layers}: at least 0")
    if min(config.spatial_widths) < 1:
        raise ValueError(f"spatial_widths={config.spatial_widths}: at least 1 each")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout={config.dropout}: from 0 to below 1")
    if config.width % 4:
        raise ValueError(f"width={config.width}: a multiple of 4, for the position encoding")
    if config.width % config.heads:
        raise ValueError(f"heads={config.heads} does not divide width={config.width}")
    if config.queries == "spatial" and not config.spatial:
        raise ValueError("queries=spatial needs the spatial branch; without it queries is embed")
    for name, _ in config.attention_options:
        if name.partition(".")[0] not in SLOTS:
            raise ValueError(f"attention_options: {name!r} names no slot; there are {', '.join(SLOTS)}")
    for slot in SLOTS:
        options = options_of(config, slot)
        check_slot(slot, getattr(config, slot), options)
        check_values(slot, getattr(config, slot), options, config.heads)
    check_levels(config, BACKBONE_LEVELS)


def check_levels(config: ModelConfig, available: int) -> None:
    """Raise ValueError if the model takes more maps than the `available` ones of its backbone."""
    if config.levels > available:
        raise ValueError(f"levels={config.levels}, but {config.backbone} has {available} levels")


def check_backbone(name: str, known: Iterable[str] = BACKBONES) -> None:
    """Raise ValueError if there is no backbone `name` among the `known` ones."""
    known = tuple(known)
    if name not in known:
        raise ValueError(f"no backbone {name!r}{nearest_clause(name, known)}; there are {', '.join(known)}")


def check_weights(weights: str) -> None:
    """Raise ValueError for backbone weights that are no word for some and no file of a known form; reads no file."""
    if weights in ("", IMAGENET, LITE0_PYPI):
        return
    path = Path(weights)
    if not path.is_file():
        raise ValueError(f"no file of backbone weights at {path}")
    if path.suffix not in WEIGHT_SUFFIXES:
        raise ValueError(f"{path}: backbone weights are a .safetensors, .pth or .pt file")


def check_network(config: ModelConfig) -> None:
    """Check the configuration of a published network without building it.

    ValueError for the first impossible setting.
    """
    name = config.architecture
    if name not in ARCHITECTURES[1:]:
        clause = nearest_clause(name, ARCHITECTURES)
        raise ValueError(f"architecture cannot be {name!r}{clause}; it is one of {', '.join(ARCHITECTURES)}")
    check_backbone(config.backbone, PUBLISHED_BACKBONES)
    for field in ("classes", "size"):
        if getattr(config, field) < 1:
            raise ValueError(f"{field}={getattr(config, field)}: at least 1")
    if config.classes < 2 and name == "pointrend":
        raise ValueError("classes=1: pointrend compares the two most probable classes, at least 2")
    if config.width < 8 or config.width % 8:
        raise ValueError(f"width={config.width}: a multiple of 8, for the widths that {name} derives from it")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout={config.dropout}: from 0 to below 1")


def check_slot(slot: str, name: str, options: Iterable[str] = ()) -> None:
    """Check that the attention `name` with the `options` of these names can be used in `slot`; builds nothing.

    Of `module:Class` only the module is looked for: what there is to say of the class is said where it is made.

    Raises:
        ValueError: In one line, for an unknown slot or name and for options that the class does not take.
    """
    if not is_own_class(slot, name):
        check_options(f"{slot}={name}", slot_attentions(slot)[name], options)
        return
    check_module(f"{slot}={name}", name.partition(":")[0])


def check_values(slot: str, name: str, options: Mapping[str, Any], heads: int) -> None:
    """Raise ValueError for a value that a parameter of our attention `name` cannot have; others check their own."""
    if name in RULES and name in slot_attentions(slot):
        defaults = {key: parameter.default for key, parameter in slot_attentions(slot)[name].items()}
        with contextlib.suppress(TypeError):  # a value of another type, from a file: its class refuses it
            RULES[name](**defaults | dict(options), heads=heads)


def check_module(said: str, module_name: str) -> None:
    """Raise ValueError, led by `said`, if no module has the first part of this dotted name; imports nothing.

    It is looked for among the installed packages, then in the working directory unless Python has a safe path.
    """
    top = module_name.partition(".")[0]
    before = list(sys.path)
    if not has_safe_path():
        sys.path.append(working_directory())
    importlib.invalidate_caches()
    try:
        is_there = top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):  # a finder's own trouble: the import says what it is
        is_there = True
    finally:
        sys.path[:] = before
    if not is_there:
        raise ValueError(f"{said}: importing {module_name} failed: ModuleNotFoundError: No module named {top!r}")
