"""Constructor parameters of an attention: the keywords that the model passes, and parameters of its own."""

from __future__ import annotations

import inspect
import typing
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from torch import nn

from unept.catalogue import KEYWORDS, Parameter

SIMPLE = (int, float, bool, str)


def own_parameters(kind: type[nn.Module]) -> dict[str, Parameter]:
    """Return the constructor parameters of ``kind`` that are not in KEYWORDS, by name, in their order."""
    hints = _hints(kind)
    return {
        p.name: Parameter(
            name=p.name,
            type=_simple(hints.get(p.name), p.default),
            required=p.default is p.empty,
            default=None if p.default is p.empty else p.default,
        )
        for p in _signature(kind)
        if p.name not in KEYWORDS and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL, p.POSITIONAL_ONLY)
    }


def wanted(kind: type[nn.Module]) -> set[str]:
    """Return the KEYWORDS that the constructor of ``kind`` names; all of them if it takes ``**kwargs``."""
    parameters = _signature(kind)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return set(KEYWORDS)
    return {parameter.name for parameter in parameters} & set(KEYWORDS)


def _signature(kind: type[nn.Module]) -> list[inspect.Parameter]:
    if kind.__init__ is nn.Module.__init__:
        return []
    return list(inspect.signature(kind).parameters.values())


def _hints(kind: type[nn.Module]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind.__init__)
    except Exception:  # a user's annotations may name what exists for a type checker alone
        return {}


def _simple(hint: Any, default: Any) -> Any:
    """Return the type in which a grid's word is read, or None."""
    if get_origin(hint) in (Union, UnionType):  # int | None: a word is the int
        hint = next((part for part in get_args(hint) if part is not type(None)), None)
    texts = get_origin(hint) is Literal and all(isinstance(value, str) for value in get_args(hint))
    plain = get_origin(hint) is tuple and all(part in (*SIMPLE, Ellipsis) for part in get_args(hint))
    if hint in SIMPLE or texts or plain:
        return hint
    if hint is None and type(default) in SIMPLE:
        return type(default)
    return None
