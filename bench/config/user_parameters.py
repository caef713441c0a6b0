"""Constructor parameters of a user's class, from a process of its own: this one never imports the class."""

from __future__ import annotations

import sys
import typing
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from bench import user_code as processes
from unept.utils import user_code

if TYPE_CHECKING:
    from unept.catalogue import Parameter

_TYPES = {"int": int, "float": float, "bool": bool, "str": str, "...": ...}


def user_parameters(slot: str, name: str) -> dict[str, Parameter]:
    """Return the parameters of `module:Class` by name. ValueError for one that cannot be had."""
    from unept.catalogue import Parameter

    described = _described(slot, name, (*sys.path, user_code.working_directory()))
    if isinstance(described, str):
        raise ValueError(described)
    return {
        entry["name"]: Parameter(
            name=entry["name"],
            type=_type(entry["type"]),
            required=entry["required"],
            default=_tuples(entry["default"]),
        )
        for entry in described
    }


@cache
def _described(slot: str, name: str, where: tuple[str, ...]) -> list[dict[str, Any]] | str:  # noqa: ARG001
    """Return `describe` of a class, or why it cannot be had; asked once for each class, from these folders."""
    try:
        described: list[dict[str, Any]] = processes.call_isolated(
            "bench.config.user_parameters:describe", slot, name, about=f"{slot}={name}"
        )
    except ValueError as error:
        return str(error)
    return described


def describe(slot: str, name: str) -> list[dict[str, Any]]:
    """Return the parameters in values that JSON has; called in the process that imports the class."""
    from unept.attention import attention_parameters

    return [
        {
            "name": parameter.name,
            "type": _type_words(parameter.type),
            "required": parameter.required,
            "default": parameter.default if _is_plain(parameter.default) else None,
        }
        for parameter in attention_parameters(slot, name).values()
    ]


def _type_words(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return ["literal", *get_args(kind)]
    if get_origin(kind) is tuple:
        return ["tuple", *map(_type_words, get_args(kind))]
    return next((word for word, known in _TYPES.items() if known is kind), None)


def _type(words: Any) -> Any:
    if isinstance(words, list) and words[0] == "literal":
        return Literal.__getitem__(tuple(words[1:]))
    if isinstance(words, list):
        return typing.cast(Any, tuple).__class_getitem__(tuple(map(_type, words[1:])))
    return _TYPES.get(words)


def _is_plain(value: Any) -> bool:
    """Return True for what a grid's word can be equal to: a number, a text, or a tuple of them."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return type(value) in (int, float, bool, str)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
