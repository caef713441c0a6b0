"""Grids of variants from words such as `N=4,16,64 L=1,3`.

    axes = parse_axes(["N=4,16", "L=1,3"])
    variants = expand_axes(axes, preset("quick"))  # four, named "N=4 L=1" and so on

Variants come in row-major order of the axes: the last axis changes fastest. An axis of a slot's parameter
(`encoder_self.window=7,15`) applies to the variants whose class has it, and at its default it is not in their names;
variants that differ in nothing else are one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.config.attention_options import (
    applicable_options,
    is_attention_option,
    unknown_option_error,
    with_attention_options,
)
from bench.config.fields import (
    AXIS_ALIASES,
    AXIS_LABELS,
    PER_STUDY,
    config_fields,
    did_you_mean,
    format_value,
    one_of,
    parse_field,
    replace_fields,
)
from bench.config.settings import Settings, TrainConfig
from unept.config import SLOTS, paper_profile, released_profile
from unept.config_rules import check_model_config

PROFILES = {
    "paper": (*paper_profile(), TrainConfig(lr_drop=2 / 3)),
    "released": (*released_profile(), TrainConfig(lr_drop=126 / 160)),
}
PROFILE_AXIS = "profile"
MAX_VARIANTS = 20_000  # of a grid: with five seeds as many rows as a report is tried with


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One field (or `profile`) and its values, in the order given.

    The values of a slot's parameter are words, since their type depends on the class in the slot.

    Args:
        name: Name of the field.
        values: At least one value, no two equal.
    """

    name: str
    values: tuple[Any, ...]

    @property
    def label(self) -> str:
        """The name that tables use: N and L for points and levels."""
        return AXIS_LABELS.get(self.name, self.name)

    def __str__(self) -> str:
        return f"{self.label}={','.join(format_value(value) for value in self.values)}"


Axes = tuple[Axis, ...]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One cell of a table.

    Args:
        name: Its label, such as `N=16 L=3`.
        axes: The values that set it apart, by field.
        settings: Its complete configuration.
    """

    name: str
    axes: Mapping[str, Any]
    settings: Settings


def parse_axes(words: Sequence[str]) -> Axes:
    """Parse axes such as `N=4,16` or `encoder_self=deformable,none`; a word may hold several, separated by spaces.

    Raises:
        ValueError: In one line, for a malformed or unknown axis, a value of the wrong type or out of range, an axis
            or a value given twice, and an empty grid.
    """
    axes = tuple(_axis(part) for word in words for part in _split(word))
    if not axes:
        raise ValueError("the grid is empty: expected at least one axis, as in --grid N=4,16 L=1,3")
    seen: dict[str, Axis] = {}
    for axis in axes:
        if axis.name in seen:
            alias = f" ({axis.label} is {axis.name})" if axis.label != axis.name else ""
            raise ValueError(f"axis {axis.label} is given twice{alias}: {seen[axis.name]} and {axis}")
        seen[axis.name] = axis
    return axes


def _split(word: str) -> list[str]:
    """Return the axes in one shell word: `"N=4 L=1"` holds two; a path that contains a space stays whole."""
    parts = word.split()
    return parts if all("=" in part for part in parts) else [word]


def _axis(word: str) -> Axis:
    label, equals, right = word.partition("=")
    if not equals or not label:
        raise ValueError(f"axis {word!r}: expected NAME=VALUE,VALUE,... as in N=4,16")
    name = AXIS_ALIASES.get(label, label)
    known = config_fields()
    if name in PER_STUDY:
        raise ValueError(f"axis {word!r}: a study has one value of {name}; use --{name}")
    if name not in known and name != PROFILE_AXIS and not is_attention_option(name):
        names = (*AXIS_ALIASES, *known, PROFILE_AXIS, *PER_STUDY)
        raise ValueError(f"axis {word!r}: there is no field {label!r}{did_you_mean(label, names) or _all_parts()}")
    texts = right.split(",")
    if texts == [""]:
        raise ValueError(f"axis {word!r}: no value after the equals sign, expected one or more, as in {label}=4,16")
    if "" in texts:
        raise ValueError(f"axis {word!r}: a comma without a value beside it; no blanks, as in {label}=4,16")
    values = tuple(_value(label, name, text) for text in texts)
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"axis {word!r}: value {format_value(value)} is given twice")
    return Axis(name=name, values=values)


def _all_parts() -> str:
    examples = ", ".join((*AXIS_ALIASES, "heads", "width", *SLOTS))
    return f"; fields are those of bench/config/settings.py, such as {examples}"


def _value(label: str, name: str, text: str) -> Any:
    if is_attention_option(name):
        return text
    if name == PROFILE_AXIS:
        if text not in PROFILES:
            raise ValueError(f"{name}={text}: expected {one_of(PROFILES)}{did_you_mean(text, PROFILES)}")
        return text
    try:
        return parse_field(config_fields()[name], text)
    except ValueError as error:
        raise ValueError(str(error).replace(f"{name}=", f"{label}=", 1)) from None


def expand_axes(axes: Axes, base: Settings) -> tuple[Variant, ...]:
    """Return a variant for every combination of the axes' values over `base`, validated.

    `profile` sets each field in which the two profiles differ; an axis of one of those fields overrides it.

    Raises:
        ValueError: For an impossible combination, and for more than `MAX_VARIANTS`.
    """
    count = math.prod(len(axis.values) for axis in axes)
    if count > MAX_VARIANTS:
        raise ValueError(f"the grid has {count:,} variants: expected at most {MAX_VARIANTS:,}")
    variants: dict[str, Variant] = {}
    models, applied = [], set()
    words: dict[tuple[str, str, Any], str] = {}
    for values in itertools.product(*(axis.values for axis in axes)):
        combination = {axis.name: value for axis, value in zip(axes, values, strict=True)}
        try:
            settings, chosen = _settings(base, combination)
            models.append(settings.model)
            applied |= set(chosen)
            name = _variant_name(axes, chosen, settings)
            for option in filter(is_attention_option, chosen):
                slot = option.partition(".")[0]
                if (
                    words.setdefault((option, getattr(settings.model, slot), chosen[option]), combination[option])
                    != combination[option]
                ):
                    raise ValueError(f"{option}: value {format_value(chosen[option])} is given twice")
            validate_settings(settings)
        except ValueError as error:
            label = " ".join(f"{axis.label}={format_value(combination[axis.name])}" for axis in axes)
            raise ValueError(prefix_variant(label, error)) from None
        variants.setdefault(name, Variant(name=name, axes=chosen, settings=settings))
    for axis in axes:
        if axis.name not in applied:
            raise unknown_option_error(str(axis), axis.name, models)
    return tuple(variants.values())


def _variant_name(axes: Axes, chosen: Mapping[str, Any], settings: Settings) -> str:
    """Return the name of a variant: its values, without those options of its slots that are at their defaults."""
    told = {name: value for name, value in chosen.items() if not is_attention_option(name)}
    told |= {name: value for name, value in settings.model.attention_options if name in chosen}
    if not told:  # options alone, all at their defaults
        told = {
            slot: getattr(settings.model, slot) for slot in dict.fromkeys(name.partition(".")[0] for name in chosen)
        }
        return " ".join(f"{slot}={value}" for slot, value in told.items())
    return " ".join(f"{axis.label}={format_value(told[axis.name])}" for axis in axes if axis.name in told)


def merge_equal(variants: Sequence[Variant]) -> tuple[tuple[Variant, ...], dict[str, str]]:
    """Return the variants without those that have the settings of an earlier one.

    Returns:
        The variants that are left, and for the name of each that is not the name of its equal.
    """
    left: dict[Settings, Variant] = {}
    for variant in variants:
        left.setdefault(variant.settings, variant)
    names = {variant.name: left[variant.settings].name for variant in variants}
    return tuple(left.values()), {name: kept for name, kept in names.items() if name != kept}


def with_field_values(base: Settings, words: Sequence[str]) -> Settings:
    """Return `base` with fields set by axes of one value each: `heads=4 encoder_self.window=7`.

    Raises:
        ValueError: As `parse_axes` and `expand_axes`, and for an axis of several values.
    """
    axes = parse_axes(words) if words else ()
    several = [axis for axis in axes if len(axis.values) > 1]
    if several:
        raise ValueError(f"{several[0]}: expected one value for each field")
    return expand_axes(axes, base)[0].settings


def _settings(base: Settings, chosen_values: Mapping[str, Any]) -> tuple[Settings, dict[str, Any]]:
    """Return `base` with the values of `given`, and those of them that applied, typed."""
    words = {name: value for name, value in chosen_values.items() if is_attention_option(name)}
    own = {name: value for name, value in chosen_values.items() if name != PROFILE_AXIS and name not in words}
    profile = profile_fields(chosen_values[PROFILE_AXIS]) if PROFILE_AXIS in chosen_values else {}
    settings = replace_fields(base, profile | own)
    options = applicable_options(settings.model, words)
    chosen = {
        name: options.get(name, value) for name, value in chosen_values.items() if name not in words or name in options
    }
    return with_attention_options(settings, options), chosen


def prefix_variant(variant: str, error: Exception) -> str:
    """Return the error's message, prefixed with the variant's name unless it begins with it."""
    message = str(error)
    return message if message.startswith(variant) else f"{variant}: {message}"


def profile_fields(name: str) -> dict[str, Any]:
    """Return the fields in which the profiles differ, with the values of the profile called `name`."""
    theirs = [{k: v for part in parts for k, v in vars(part).items()} for parts in PROFILES.values()]
    own = {k: v for part in PROFILES[name] for k, v in vars(part).items()}
    return {field: value for field, value in own.items() if any(other[field] != value for other in theirs)}


def validate_settings(settings: Settings) -> None:
    """Check what is impossible without building a model.

    Raises:
        ValueError: Names the field.
    """
    check_model_config(settings.model)
    train, evaluation = settings.train, settings.evaluation
    if not 0 < train.scale_min <= train.scale_max:
        raise ValueError(
            f"scale_min={train.scale_min:g}: expected more than 0 and at most scale_max, {train.scale_max:g}"
        )
    if not all(scale > 0 for scale in evaluation.scales):
        raise ValueError(f"scales={format_value(evaluation.scales)}: expected numbers above 0")
    if evaluation.mode == "slide" and evaluation.stride > evaluation.window:
        raise ValueError(
            f"stride={evaluation.stride}: expected at most window, {evaluation.window}, or pixels are left out"
        )
