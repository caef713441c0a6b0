"""Attention mechanisms: one a file, one interface, chosen by name or by ``module:Class``.

A self-attention is called with (tokens_BSC, position_BSC or None, shapes), a cross-attention with
(queries_BQC, memory_BSC, query_shape, shapes); ``shapes`` is ((H, W), ...) in plain integers. Both return what is added
to their first argument: residual, norm and dropout belong to the layer. A constructor is given those of the keywords
width, heads, levels, points, offset_init and dropout that it names.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
from collections.abc import Mapping
from types import ModuleType

from torch import nn

from unept.attention.deformable import DeformableCross, DeformableSelf
from unept.attention.multihead import BatchSelf, DenseCross, DenseSelf, PointwiseSelf
from unept.attention.nothing import NothingCross, NothingSelf
from unept.config import SLOTS

__all__ = ["CROSS", "KEYWORDS", "SELF", "check_slot", "make", "names"]

SELF: dict[str, type[nn.Module]] = {
    "deformable": DeformableSelf,
    "pointwise": PointwiseSelf,
    "batch": BatchSelf,
    "dense": DenseSelf,
    "none": NothingSelf,
}
CROSS: dict[str, type[nn.Module]] = {"deformable": DeformableCross, "dense": DenseCross, "none": NothingCross}
KEYWORDS = ("width", "heads", "levels", "points", "offset_init", "dropout")


def names(slot: str) -> tuple[str, ...]:
    """The names that ``slot`` takes besides ``module:Class``. ValueError for an unknown slot."""
    return tuple(_ours(slot))


def check_slot(slot: str, name: str) -> None:
    """ValueError, in one line, where ``name`` cannot stand in ``slot``; builds nothing."""
    _wanted(slot, name, _find(slot, name))


def make(slot: str, name: str, settings: Mapping[str, object]) -> nn.Module:
    """The attention ``name`` for ``slot``; ``settings`` has a value for each of KEYWORDS.

    ValueError where the name is unknown or the class cannot be made from those keywords.
    """
    assert set(settings) == set(KEYWORDS), sorted(settings)
    kind = _find(slot, name)
    wanted = _wanted(slot, name, kind)
    try:
        return kind(**{key: value for key, value in settings.items() if key in wanted})
    except TypeError as error:
        raise ValueError(f"{slot}={name} cannot be made: {error}") from error


def _ours(slot: str) -> dict[str, type[nn.Module]]:
    if slot not in SLOTS:
        raise ValueError(f"unknown slot {slot!r}; there are {', '.join(SLOTS)}")
    return CROSS if slot == "decoder_cross" else SELF


def _find(slot: str, name: str) -> type[nn.Module]:
    ours = _ours(slot)
    if name in ours:
        return ours[name]
    if ":" in name:
        return _find_user(slot, name)
    near = difflib.get_close_matches(name, ours, n=1)
    guess = f" (nearest: {near[0]})" if near else ""
    raise ValueError(f"{slot} cannot be {name!r}{guess}; it is one of {', '.join(ours)}, or module:Class")


def _find_user(slot: str, name: str) -> type[nn.Module]:
    module_name, _, class_name = name.partition(":")
    if not (class_name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise ValueError(f"{slot}={name}: module:Class takes a dotted module name and a class name")
    kind = getattr(_import(slot, name, module_name), class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"{slot}={name}: {module_name} has no torch.nn.Module class {class_name}")
    return kind


def _import(slot: str, name: str, module_name: str) -> ModuleType:
    """Import from the installed packages, else from the working directory; `sys.path` is as before afterwards."""
    before = list(sys.path)
    sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f"{slot}={name}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    finally:
        sys.path[:] = before


def _wanted(slot: str, name: str, kind: type[nn.Module]) -> set[str]:
    """Those of KEYWORDS that the constructor of ``kind`` names; all, where it takes any."""
    if kind.__init__ is nn.Module.__init__:
        return set()
    parameters = inspect.signature(kind).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return set(KEYWORDS)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    unknown = [key for key in needed if key not in KEYWORDS]
    if unknown:
        raise ValueError(
            f"{slot}={name}: its constructor needs {', '.join(unknown)}; it is given {', '.join(KEYWORDS)}"
        )
    return {parameter.name for parameter in parameters} & set(KEYWORDS)
