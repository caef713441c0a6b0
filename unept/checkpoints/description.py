"""Description of a trained model in plain values: configuration, classes, and facts, each checked when it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from unept.config import SLOTS, ModelConfig
from unept.data.sample import Colour, is_class_name, is_colour

SUFFIX = ".safetensors"  # of a checkpoint's name
LARGEST = 2**20  # largest whole number in a description
MAX_SIDE = 2**14  # pixels, of the base in a checkpoint's facts
MAX_SHOWN = 60  # characters of a wrong value in a message
_FACTS = {"step": int, "seed": int, "data": str, "preset": str, "source": str, "profile": str, "training": dict}
_KIND_NAMES = {int: "a whole number", str: "text", dict: "a mapping"}


def config_values(config: ModelConfig) -> dict[str, Any]:
    """Return the configuration as `read_config` takes it."""
    values = {name: [*v] if isinstance(v, tuple) else v for name, v in dataclasses.asdict(config).items()}
    return values | {"attention_options": {name: value for name, value in config.attention_options}}


def read_config(values: object, *, own_modules: bool) -> ModelConfig:
    """Return the configuration of a description, each value of its field's type. Missing fields have their default."""
    if not isinstance(values, dict):
        raise ValueError("its config is no mapping")
    hints = get_type_hints(ModelConfig)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ValueError(f"config field {unknown[0]!r} is unknown to this program")
    fields = {name: _value(name, hints[name], value) for name, value in values.items() if name != "attention_options"}
    options = values.get("attention_options", {})
    if not isinstance(options, dict):
        raise ValueError(f"config attention_options={options!r}: expected a mapping")
    pairs = tuple((name, _option(name, value)) for name, value in sorted(options.items()))
    config = ModelConfig(**fields, attention_options=pairs)
    for slot in SLOTS:
        if ":" in getattr(config, slot) and not own_modules:
            raise ValueError(f"{slot} is {getattr(config, slot)}, code outside this program; allow it to be imported")
    return config


def _option(name: str, value: object) -> object:
    kinds = {bool: bool, int: int, float: float, str: str}
    if isinstance(value, list) and value:
        return tuple(_option(name, item) for item in value)
    if type(value) not in kinds:
        raise ValueError(f"config {name}={value!r}: expected a number, a word, or a list of them")
    return _value(name, kinds[type(value)], value)


def _value(name: str, kind: Any, value: object) -> Any:
    """Return `value` if it is of the type `kind`, lists as tuples. ValueError otherwise."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if not isinstance(value, list) or len(value) != len(kinds):
            raise ValueError(f"config {name}={value!r}: expected a list of {len(kinds)}")
        return tuple(_value(name, item_kind, item) for item_kind, item in zip(kinds, value, strict=True))
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"config {name}={value!r}: expected one of {', '.join(get_args(kind))}")
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"config {name}={value!r}: expected {kind.__name__}")
    if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST:  # NaN is refused too
        raise ValueError(f"config {name}={value!r}: expected at most {LARGEST}")
    return value


def read_classes(content: Mapping[str, Any], config: ModelConfig) -> tuple[tuple[str, ...], tuple[Colour, ...]]:
    """Return names and colours, one for each class. ValueError otherwise."""
    names, colours = content["classes"], content["palette"]
    if not isinstance(names, list):
        raise ValueError("its class names are no list")
    unfit = [name for name in names if not is_class_name(name)]
    if unfit:
        raise ValueError(f"its class name {_shown(unfit[0])}: expected text without tabs, line ends and other controls")
    if not isinstance(colours, list) or not all(is_colour(colour) for colour in colours):
        raise ValueError("its palette is no list of colours [red, green, blue], each 0 to 255")
    if not len(names) == len(colours) == config.classes:
        raise ValueError(f"{len(names)} class names and {len(colours)} colours for {config.classes} classes")
    return tuple(names), tuple((red, green, blue) for red, green, blue in colours)


def check_facts(facts: Mapping[str, Any]) -> None:
    """Raise ValueError that names the first of the facts known here that is of another kind than it should be."""
    for name, kind in _FACTS.items():
        value = facts.get(name)
        if value is not None and type(value) is not kind:
            raise ValueError(f"its fact {name} is {_shown(value)}: expected {_KIND_NAMES[kind]}")
    base = facts.get("base")
    if base is None or (isinstance(base, list | tuple) and len(base) == 2 and all(map(_is_side, base))):
        return
    raise ValueError(f"its fact base is {_shown(base)}: expected two sides of a picture, of 1 to {MAX_SIDE} pixels")


def _is_side(value: object) -> bool:
    return type(value) is int and 1 <= value <= MAX_SIDE


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
