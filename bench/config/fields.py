"""Fields of the configuration by name: the part each belongs to, parsing of its values, and its allowed range.

An axis of a grid is named by a field alone (`heads=4,8`), so names are unique over the parts of `Settings`; a test
keeps that true. Every error is a ValueError of one line that names the field, the value and what is allowed.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from bench.config.settings import Settings

AXIS_ALIASES: Mapping[str, str] = types.MappingProxyType({"N": "points", "L": "levels"})
AXIS_LABELS: Mapping[str, str] = types.MappingProxyType({field: alias for alias, field in AXIS_ALIASES.items()})
# Options of the command that are no axes: one table compares runs on one data set, of one preset, and so on.
PER_STUDY = ("data", "preset", "seeds", "threads", "jobs", "out", "retry")
NO_AXIS = ("attention_options",)  # fields that are set by axes of other names: bench/config/attention_options.py
LARGEST_INTEGER = 10**9  # of any whole number: more than any field can use, and less than makes torch overflow

# Allowed ranges, both ends included, where they are not the rule: whole numbers from 1, others from 0.
RANGES: Mapping[str, tuple[float, float]] = types.MappingProxyType(
    {
        "images": (0, math.inf),
        "keep": (0, math.inf),
        "probes": (0, math.inf),
        "encoder_layers": (0, math.inf),
        "dropout": (0, 1),
        "flip": (0, 1),
        "category_max": (0, 1),
        "warmup": (0, 1),
        "lr_drop": (0, 1),
        "beta1": (0, 1),
        "beta2": (0, 1),
    }
)
_TRUE = ("true", "yes", "on")
_FALSE = ("false", "no", "off")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfigField:
    """One field of the configuration.

    Args:
        name: Its name, unique over all parts.
        part: The attribute of `Settings` that holds it; "" for a field of `Settings` itself.
        type: Its type annotation.
    """

    name: str
    part: str
    type: Any


@cache
def config_fields() -> Mapping[str, ConfigField]:
    """Return every field that an axis can set, by name."""
    by_name: dict[str, ConfigField] = {}
    for name, kind in get_type_hints(Settings).items():
        if dataclasses.is_dataclass(kind):
            inner = get_type_hints(kind)
            by_name |= {
                f.name: ConfigField(name=f.name, part=name, type=inner[f.name]) for f in dataclasses.fields(kind)
            }
        else:
            by_name[name] = ConfigField(name=name, part="", type=kind)
    return types.MappingProxyType({name: field for name, field in by_name.items() if name not in NO_AXIS})


def nearest_name(word: str, names: Iterable[str]) -> str:
    """Return the one of `names` most similar to `word`, ignoring case; "" where none is similar."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.3)
    return by_lower[close[0]] if close else ""


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Return a clause for the end of an error, `; did you mean 'points'?`, or "" where no name is similar."""
    close = nearest_name(word, names)
    return f"; did you mean {close!r}?" if close else ""


def parse_field(field: ConfigField, word: str) -> Any:
    """Parse `word` as a value of `field` and check its range. A tuple is written with plus signs: `scales=0.5+1.0`.

    Raises:
        ValueError: For a value of the wrong type or out of range.
    """
    text = f"{field.name}={word}"
    value = parse_as(text, field.type, word)
    _check_range(field.name, text, value)
    return value


def parse_as(text: str, kind: Any, word: str) -> Any:
    """Parse `word` as a value of the type `kind`: str, bool, int, float, a Literal, or a tuple of these.

    Args:
        said: What the user typed, at the head of the error's message.
        kind: The type annotation.
        word: The text to parse.

    Raises:
        ValueError: For a text that is no such value.
    """
    if kind is str:
        return word
    if kind is bool:
        if word.lower() not in _TRUE + _FALSE:
            raise ValueError(f"{text}: expected true or false")
        return word.lower() in _TRUE
    if kind in (int, float):
        try:
            return kind(word.replace("_", "x"))  # Python would read 1_0 as 10
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise ValueError(f"{text}: expected {expected}") from None
    if get_origin(kind) is Literal:
        allowed = get_args(kind)
        if word not in allowed:
            raise ValueError(f"{text}: expected {one_of(allowed)}{did_you_mean(word, allowed)}")
        return word
    assert get_origin(kind) is tuple, f"{text}: no conversion to {kind}"
    return _tuple(text, get_args(kind), word)


def _tuple(text: str, kinds: tuple[Any, ...], word: str) -> tuple[Any, ...]:
    parts = word.split("+")
    variadic = kinds[-1] is Ellipsis
    if not variadic and len(parts) != len(kinds):
        raise ValueError(
            f"{text}: expected {len(kinds)} values joined by plus signs, as in {'+'.join('1' * len(kinds))}"
        )
    item_types = [kinds[0]] * len(parts) if variadic else kinds
    return tuple(parse_as(text, kind, part) for kind, part in zip(item_types, parts, strict=True))


def _check_range(name: str, text: str, value: Any) -> None:
    if isinstance(value, tuple):
        for item in value:
            _check_range(name, text, item)
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    check_number(text, value)
    if name.startswith("scene_"):  # the scenes know their own limits
        return
    low, high = RANGES.get(name, (1 if isinstance(value, int) else 0, math.inf))
    if not low <= value <= high:
        expected = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
        raise ValueError(f"{text}: expected {expected}")


def check_number(text: str, value: Any) -> None:
    """Check that the numbers in `value` are finite and at most LARGEST_INTEGER.

    Args:
        said: What the user typed, at the head of the error's message.
        value: A value or a tuple of values; those that are no numbers pass.

    Raises:
        ValueError: For a number that no field and no parameter can be.
    """
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, float) and not math.isfinite(number):
            raise ValueError(f"{text}: expected a finite number")
        if isinstance(number, int) and abs(number) > LARGEST_INTEGER:
            raise ValueError(f"{text}: expected at most {LARGEST_INTEGER}")


def one_of(names: Iterable[object]) -> str:
    """Return `a, b or c`, for error messages."""
    words = [str(name) for name in names]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def replace_fields(settings: Settings, values: Mapping[str, Any]) -> Settings:
    """Return `settings` with the fields named in `values` replaced.

    Raises:
        ValueError: From the checks of the changed parts.
    """
    known = config_fields()
    by_part: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        by_part.setdefault(known[name].part, {})[name] = value
    changes = by_part.pop("", {})
    for part, inner in by_part.items():
        changes[part] = dataclasses.replace(getattr(settings, part), **inner)
    return dataclasses.replace(settings, **changes)


def field_value(settings: Settings, name: str) -> Any:
    """Return the value of the field called `name`."""
    part = config_fields()[name].part
    return getattr(getattr(settings, part) if part else settings, name)


def format_value(value: Any) -> str:
    """Return a value as it is written in an axis and in a variant's name: `true`, `0.5+1`, `16`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return "+".join(format_value(item) for item in value)
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
