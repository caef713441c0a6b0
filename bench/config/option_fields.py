"""Command-line options described once, as fields of frozen dataclasses.

A field made by `option` or `argument` carries its help, allowed values and group in its metadata. The command line
derives its options from it; whoever builds the dataclass in Python has the same ranges and choices by `check_options`.

>>> @dataclass(frozen=True, kw_only=True)
... class Options:
...     seeds: int = option(5, help="Trainings of each variant.", least=1)
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from bench.config.fields import LARGEST_INTEGER, did_you_mean, one_of, parse_as
from bench.config.output_path import check_output
from unept.utils.paths import user_path

METADATA = "option"
_REQUIRED: Any = dataclasses.MISSING


@dataclass(frozen=True, kw_only=True)
class Description:
    """Everything about an option but its name, type and default, which are those of its field.

    Args:
        help: One sentence for `--help`.
        metavar: The value's name in `--help`.
        group: Heading under which `--help` lists the option.
        name: The option's name without dashes; "" for the field's own.
        older_name: Name without dashes that the option had before; it is still understood, and not listed.
        default_text: The default in words; "" for the default's value.
        choices: Allowed values; empty for any.
        least: Smallest allowed number; None for any.
        most: Largest allowed number.
        parse: Turns the typed text into the value. Raises ValueError. None for conversion by the field's type.
        completes: What a shell completes it with: "choices", "data", "fields", "attention", "files" or "".
        writes: "folder" or "file" for a path where the command writes, checked before it starts; "" for others.
        is_argument: True for a word without an option's name.
        is_hidden: True for what `--help` does not list.
    """

    help: str
    metavar: str = ""
    group: str = "Options"
    name: str = ""
    older_name: str = ""
    default_text: str = ""
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float = LARGEST_INTEGER
    parse: Callable[[str], Any] | None = None
    completes: str = ""
    writes: str = ""
    is_argument: bool = False
    is_hidden: bool = False


def option(default: Any = _REQUIRED, **described: Any) -> Any:
    """Return a dataclass field that is an option; keywords are those of `Description`. No default: required."""
    return dataclasses.field(default=default, metadata={METADATA: Description(**described)})


def argument(default: Any = _REQUIRED, **described: Any) -> Any:
    """Return a dataclass field that is a positional argument; keywords are those of `Description`."""
    return option(default, is_argument=True, **described)


def nested_options(kind: type) -> Any:
    """Return a dataclass field that holds another dataclass of options, with that one's defaults."""
    return dataclasses.field(default_factory=kind)


@dataclass(frozen=True, kw_only=True)
class OptionField:
    """One option of a dataclass: its field's name, the option as typed, its type, default and description."""

    field: str
    typed_name: str  # "--backbone-weights", or the metavar of an argument
    type: Any
    default: Any
    description: Description

    @property
    def older_name(self) -> str:
        """Return the name, with dashes, that the option had before; "" for none."""
        return f"--{self.description.older_name}" if self.description.older_name else ""

    @property
    def is_required(self) -> bool:
        """Return True where there is no default."""
        return self.default is dataclasses.MISSING

    @property
    def is_optional(self) -> bool:
        """Return True where None stands for a default that is known later."""
        return type(None) in get_args(self.type)

    @property
    def plain_type(self) -> Any:
        """Return the type without None."""
        if get_origin(self.type) in (Union, types.UnionType) and self.is_optional:
            (plain,) = (kind for kind in get_args(self.type) if kind is not type(None))
            return plain
        return self.type

    @property
    def is_list(self) -> bool:
        """Return True for a tuple that is given word by word."""
        return get_origin(self.plain_type) is tuple and self.description.parse is None

    def value(self, text: str) -> Any:
        """Convert a typed word. Raises ValueError that names the option, the word and what is expected."""
        description = self.description
        if text == "" and self.is_optional:
            return None
        if description.parse is not None:
            return description.parse(text)
        kind = get_args(self.plain_type)[0] if self.is_list else self.plain_type
        if kind is Path:
            return user_path(text)
        return parse_as(f"{self.typed_name} {text}", kind, text) if kind in (int, float) else text

    def check(self, value: Any) -> None:
        """Raise ValueError, in one line, for a value out of range or not among the choices."""
        for item in value if isinstance(value, tuple) else (value,):
            self._check(item)

    def _check(self, value: Any) -> None:
        if self.description.writes and isinstance(value, Path):
            check_output(value, self.typed_name, is_file=self.description.writes == "file")
            return
        description, said = self.description, f"{self.typed_name} {value}"
        if description.is_argument:
            said = f"{description.name or self.field} {value}"
        if description.choices and value not in ("", None) and str(value) not in description.choices:
            allowed = one_of(description.choices)
            raise ValueError(f"{said}: expected {allowed}{did_you_mean(str(value), description.choices)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or description.least is None:
            return
        if not description.least <= value <= description.most:
            if description.most < LARGEST_INTEGER:
                raise ValueError(f"{said}: expected {description.least:g} to {description.most:g}")
            bound = f"at least {description.least:g}" if value < description.least else f"at most {LARGEST_INTEGER}"
            raise ValueError(f"{said}: expected {bound}")


def option_fields(kind: type) -> Iterator[OptionField]:
    """Yield the options of the dataclass `kind` in its order, without those of dataclasses that it holds."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        description = field.metadata.get(METADATA)
        if description is None:
            continue
        name = f"--{description.name or field.name.replace('_', '-')}"
        yield OptionField(
            field=field.name,
            typed_name=description.metavar if description.is_argument else name,
            type=hints[field.name],
            default=field.default,
            description=description,
        )


def nested_fields(kind: type) -> Iterator[tuple[str, type]]:
    """Yield name and class of each dataclass of options that `kind` holds."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = hints[field.name]
        if METADATA not in field.metadata and dataclasses.is_dataclass(inner) and isinstance(inner, type):
            yield field.name, inner


def check_options(options: Any) -> None:
    """Check the ranges and choices of a dataclass of options, and of those that it holds. Raises ValueError."""
    for field in option_fields(type(options)):
        field.check(getattr(options, field.field))
    for name, _ in nested_fields(type(options)):
        check_options(getattr(options, name))
