"""From dataclasses of options to commands: every parameter of the command line is derived from a field once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from typing import Annotated, Any, get_origin

import typer

from bench import user_code
from bench.config.option_fields import OptionField, check_options, nested_fields, option_fields
from experiments.commands.completion import completer
from experiments.commands.console import FAILED, NAME, Invocation, print_progress
from experiments.commands.help_text import command_class
from unept.config import SLOTS


def no_user_code(options: Any) -> str:
    """Return "": the command runs no code of the user's own, or isolates it by itself."""
    return ""


def own_slots(words: Iterable[str]) -> str:
    """Return the users' `module:Class` among words such as `encoder_self=mine:Mine heads=2`."""
    pairs = [part.partition("=") for word in words for part in word.split()]
    return ", ".join(value for name, _, value in pairs if name in SLOTS and ":" in value)


GROUPS = ("Study", "Model", "Cost", "Data and machine")


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One command of the program.

    Args:
        name: As typed.
        run: Does it, given the options and the invocation; returns the exit code.
        options: Dataclass of its options.
        group: One of GROUPS, under which `--help` of the program lists it.
        summary: Its line there, of at most 45 characters.
        example: A command line that works, without the program's name.
        spread: Option whose value may be followed by more values, as `--grid N=4 L=1`; "" for none.
        user_code: Names the user's own code that the command runs, as `mine:Mine`, by its options; "" for none. Such a
            command runs in a process of its own.
    """

    name: str
    run: Callable[[Any, Invocation], int]
    options: type
    group: str
    summary: str
    example: str
    spread: str = ""
    user_code: Callable[[Any], str] = no_user_code


def register(app: typer.Typer, verb: Verb) -> None:
    """Add `verb` to `app`. Its help is the docstring of its function."""
    fields = [field for _, field in _flat_fields(verb.options)]

    def call(ctx: typer.Context, **words: Any) -> int:
        options = options_from(verb.options, words)
        check_options(options)
        about = "" if user_code.is_isolated() else verb.user_code(options)
        if not about:
            return verb.run(options, ctx.obj)
        try:
            return user_code.run_isolated("cli:main", ctx.obj.words, about=about)
        except user_code.UserCodeEnded as end:
            print_progress(f"{NAME}: {end}")
            return FAILED

    context = Parameter("ctx", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    older = [_older_parameter(field) for field in fields if field.description.older_name]
    parameters = [context, *map(_parameter, fields), *older]
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(
        verb.name,
        cls=command_class(spread=verb.spread, example=verb.example),
        help=verb.run.__doc__,
        short_help=verb.summary,
        rich_help_panel=verb.group,
    )(call)


def options_from(kind: type, words: Mapping[str, Any]) -> Any:
    """Return an object of the dataclass `kind` from typed words by field name; None leaves the default.

    Raises ValueError that names the option, the word and what is expected.
    """
    values: dict[str, Any] = {name: options_from(inner, words) for name, inner in nested_fields(kind)}
    for field in option_fields(kind):
        word = _typed_word(field, words)
        if word is None or word == [] or word == ():
            continue
        if field.is_list:
            values[field.field] = tuple(field.value(part) for part in word)
        else:
            values[field.field] = word if isinstance(word, bool) else field.value(word)
    return kind(**values)


def _flat_fields(kind: type) -> Iterator[tuple[type, OptionField]]:
    """Yield the options of `kind` and of the dataclasses that it holds, those first that come first in the class."""
    nested = dict(nested_fields(kind))
    own = {field.field: field for field in option_fields(kind)}
    for name in kind.__dataclass_fields__:  # type: ignore[attr-defined]
        if name in own:
            yield kind, own[name]
        elif name in nested:
            yield from _flat_fields(nested[name])


def _parameter(field: OptionField) -> Parameter:
    """Return the parameter of a command that stands for `field`; words are converted by `options_from`."""
    described = field.description
    common: dict[str, Any] = {"help": _help(field), "show_default": False, "hidden": described.is_hidden}
    if described.completes not in ("", "files"):  # shells complete files by themselves
        common["autocompletion"] = completer(field)
    if field.plain_type is not bool:
        common["metavar"] = described.metavar
    kind: Any = list[str] if field.is_list else bool if field.plain_type is bool else str
    if described.is_argument:
        info: Any = typer.Argument(**common)
    else:
        name = f"{field.typed_name}/--no-{field.typed_name[2:]}" if _has_opposite(field) else field.typed_name
        info = typer.Option(name, rich_help_panel=described.group, **common)
    if field.is_required:
        return Parameter(field.field, Parameter.KEYWORD_ONLY, annotation=Annotated[kind, info])
    return Parameter(field.field, Parameter.KEYWORD_ONLY, annotation=Annotated[kind | None, info], default=None)


def _older_parameter(field: OptionField) -> Parameter:
    """Return a hidden parameter that understands the older name of `field`."""
    info = typer.Option(field.older_name, hidden=True)
    kind: Any = bool if field.plain_type is bool else str
    return Parameter(_older_word(field), Parameter.KEYWORD_ONLY, annotation=Annotated[kind | None, info], default=None)


def _older_word(field: OptionField) -> str:
    return field.description.older_name.replace("-", "_")


def _typed_word(field: OptionField, words: Mapping[str, Any]) -> Any:
    """Return the word typed after the option's name or its older name. Raises ValueError if both were typed."""
    word = words.get(field.field)
    older = words.get(_older_word(field)) if field.older_name else None
    if word is not None and older is not None:
        raise ValueError(f"{field.older_name} is the older name of {field.typed_name}: give one of them")
    return older if word is None else word


def _has_opposite(field: OptionField) -> bool:
    """Return True for a flag that may be on, off, or left to a default."""
    return field.plain_type is bool and field.is_optional


def _help(field: OptionField) -> str:
    """Return the help sentence with the default in words."""
    text = _default_text(field)
    return f"{field.description.help}  [default: {text}]" if text else field.description.help


def _default_text(field: OptionField) -> str:
    if field.description.default_text:
        return field.description.default_text
    if field.is_required or field.default in ("", None, ()) or field.default is False:
        return ""
    if get_origin(field.plain_type) is tuple:
        return ",".join(map(str, field.default))
    return str(field.default)
