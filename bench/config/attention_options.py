"""Constructor parameters of the attention in a slot, used as axes: `encoder_self.window=7,15`.

The constructor of the class in the slot says which parameters there are, of what type and with what default; no
mechanism is known here by name. In a grid of several mechanisms a parameter applies to the variants whose class has it.
An option at its default is left out, so that a variant has one configuration, one name and one key however it is typed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from bench.config.fields import check_number, did_you_mean, one_of, parse_as
from bench.config.settings import Settings, settings_from_dict, settings_to_dict
from bench.config.user_parameters import user_parameters
from unept.catalogue import KEYWORDS, check_options, is_own_class, slot_attentions
from unept.config import SLOTS, ModelConfig
from unept.config_rules import check_module, check_slot, check_values


def is_attention_option(name: str) -> bool:
    """Return True if an axis of this name is a parameter of a slot, such as `encoder_self.window`."""
    slot, dot, parameter = name.partition(".")
    return bool(dot) and slot in SLOTS and parameter.isidentifier()


def applicable_options(model: ModelConfig, words: Mapping[str, str]) -> dict[str, Any]:
    """Parse the options that the classes in the slots of `model` accept.

    Args:
        model: Names the class in each slot.
        words: Values as typed, by option name such as `encoder_self.window`.

    Returns:
        Typed values by option name; options that a class does not have are left out.

    Raises:
        ValueError: For a value of the wrong type.
    """
    values = {}
    for name, word in words.items():
        slot, _, parameter = name.partition(".")
        own = _parameters(slot, getattr(model, slot))
        if parameter in own:
            values[name] = _value(f"{name}={word}", own[parameter].type, word)
    return values


def model_with_attention(slot: str, name: str, words: Iterable[str], base: ModelConfig | None = None) -> ModelConfig:
    """Return a model with an attention and its parameters in a slot; torch is imported for a user's class alone.

    Args:
        slot: Slot of the model.
        name: One of our names, or `module:Class`.
        words: Parameters of the attention, such as "window=7".
        base: Model to put it into; None for the paper's.

    Raises:
        ValueError: The slot, the name, a parameter or a value is not possible; the message is one line.
    """
    is_own_class(slot, name)
    named: dict[str, Any] = {slot: name}
    model, parameters = dataclasses.replace(base or ModelConfig(), **named), {}
    for word in words:
        parameter, equals, value = word.partition("=")
        if not (parameter and equals and value):
            raise ValueError(f"--set {word}: expected parameter=value")
        if parameter in parameters:
            raise ValueError(f"--set {word}: {parameter} is given twice")
        parameters[parameter] = value
    check_slot(slot, name)
    check_options(f"{slot}={name}", _parameters(slot, name), parameters)
    options = applicable_options(model, {f"{slot}.{parameter}": value for parameter, value in parameters.items()})
    check_values(slot, name, {option.partition(".")[2]: value for option, value in options.items()}, model.heads)
    return dataclasses.replace(model, attention_options=tuple(sorted(options.items())))


def with_attention_options(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """Return `settings` with `options` added to those it has.

    Options that its classes do not have, and options at their defaults, are left out.
    """
    model = settings.model
    together = dict(model.attention_options) | dict(options)
    chosen = tuple(sorted((name, value) for name, value in together.items() if _changes(model, name, value)))
    return dataclasses.replace(settings, model=dataclasses.replace(model, attention_options=chosen))


def without_defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as plain values without options at their defaults, which older versions kept.

    They are returned as they are where a class cannot be had.
    """
    try:
        known = settings_from_dict(dict(settings))
        return settings_to_dict(with_attention_options(known, {}))
    except ValueError:
        return dict(settings)


def _changes(model: ModelConfig, option: str, value: Any) -> bool:
    """Return True if the class in the option's slot has the parameter, with another default than `value`."""
    slot, _, name = option.partition(".")
    parameter = _parameters(slot, getattr(model, slot)).get(name)
    if parameter is None:
        return False
    default = parameter.default
    same = value == default and isinstance(value, bool) == isinstance(default, bool)
    return parameter.required or not same


def unknown_option_error(axis: str, name: str, models: Iterable[ModelConfig]) -> ValueError:
    """Return the error for an axis that no class in its slot accepts.

    Args:
        axis: The axis as typed.
        name: Its name, `SLOT.PARAMETER`.
        models: The models of the grid, whose classes in that slot are listed.
    """
    slot, _, parameter = name.partition(".")
    if parameter in KEYWORDS:
        return ValueError(f"axis {axis!r}: {parameter} is the model's own, not that of a slot")
    kinds = list(dict.fromkeys(getattr(model, slot) for model in models))
    known = dict.fromkeys(parameter for kind in kinds for parameter in _parameters(slot, kind))
    has = f"the parameters are {', '.join(known)}" if known else "there are no parameters of its own"
    return ValueError(
        f"axis {axis!r}: {slot}={one_of(kinds)} has no parameter {parameter!r}; {has}{did_you_mean(parameter, known)}"
    )


def _parameters(slot: str, kind: str) -> Mapping[str, Any]:
    if not is_own_class(slot, kind):
        return slot_attentions(slot)[kind]
    check_module(f"{slot}={kind}", kind.partition(":")[0])
    return user_parameters(slot, kind)


def _value(text: str, kind: Any, word: str) -> Any:
    if kind is None:
        raise ValueError(f"{text}: its type is not known: annotate it as int, float, bool, str or a tuple of these")
    value = parse_as(text, kind, word)
    check_number(text, value)
    return value
