"""What the constructor of an attention asks for: the keywords that the model gives, and parameters of its own."""

from __future__ import annotations

import difflib
import inspect
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from torch import nn

KEYWORDS = ("width", "heads", "levels", "points", "offset_init", "dropout", "layer")
SIMPLE = (int, float, bool, str)


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter that a class has of its own: its type, and its default unless it must be given.

    ``type`` is int, float, bool, str, a Literal of texts or a tuple of such; None where neither the annotation nor the
    default tells, or where it is something else.
    """

    name: str
    type: Any
    required: bool
    default: Any = None


def own_parameters(kind: type[nn.Module]) -> dict[str, Parameter]:
    """The parameters of the constructor of ``kind`` that are none of KEYWORDS, in their order."""
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
    """Those of KEYWORDS that the constructor of ``kind`` names; all, where it takes any."""
    parameters = _signature(kind)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return set(KEYWORDS)
    return {parameter.name for parameter in parameters} & set(KEYWORDS)


def check_options(said: str, kind: type[nn.Module], options: Mapping[str, object]) -> None:
    """ValueError, led by ``said``, for an option that ``kind`` does not have and for one that it must be given."""
    own = own_parameters(kind)
    for name in options:
        if name in KEYWORDS:
            raise ValueError(f"{said}: {name} is the model's own, one for every slot; give it as {name}=...")
        if name not in own:
            raise ValueError(f"{said} has no parameter {name!r}{nearest(name, own)}; it has {', '.join(own) or 'none'}")
    missing = [name for name, parameter in own.items() if parameter.required and name not in options]
    if missing:
        slot = said.partition("=")[0]
        raise ValueError(
            f"{said}: its constructor needs {', '.join(missing)}; it is given {', '.join(KEYWORDS)}, "
            f"and what a grid names, as in {slot}.{missing[0]}=..."
        )


def nearest(name: str, names: Iterable[str]) -> str:
    """A clause that names the most similar of ``names``, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" (nearest: {close[0]})" if close else ""


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
    """The type in which a word of a grid is read, or None."""
    if get_origin(hint) in (Union, UnionType):  # int | None: a word is the int
        hint = next((part for part in get_args(hint) if part is not type(None)), None)
    texts = get_origin(hint) is Literal and all(isinstance(value, str) for value in get_args(hint))
    plain = get_origin(hint) is tuple and all(part in (*SIMPLE, Ellipsis) for part in get_args(hint))
    if hint in SIMPLE or texts or plain:
        return hint
    if hint is None and type(default) in SIMPLE:
        return type(default)
    return None
