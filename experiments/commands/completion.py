"""Shell completion: values of options without an import of torch, and repair of the words that bash splits."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterable, MutableMapping

from bench.config.option_fields import OptionField
from experiments.commands.console import NAME
from unept.catalogue import BACKBONES, CROSS_ATTENTIONS, SELF_ATTENTIONS, attention_names
from unept.config import BACKENDS, SLOTS
from unept.utils.paths import user_path
from unept.utils.visible_text import visible_text

VARIABLE = f"_{NAME.replace('-', '_').upper()}_COMPLETE"
DEVICES = ("auto", "cpu", "cuda")


def completer(field: OptionField) -> Callable[[str], list[str]]:
    """Return the function that completes the words of `field`: from what has been typed to whole words."""
    kind = field.description.completes
    if kind == "choices":
        return lambda incomplete: _starting(incomplete, field.description.choices)
    by_kind: dict[str, Callable[[str], list[str]]] = {
        "attention": lambda incomplete: _starting(incomplete, dict.fromkeys((*SELF_ATTENTIONS, *CROSS_ATTENTIONS))),
        "backbones": lambda incomplete: _starting(incomplete, ("deit", "r50", *BACKBONES)),
        "backends": lambda incomplete: _last_of_list(incomplete, BACKENDS),
        "data": complete_data,
        "devices": lambda incomplete: _starting(incomplete, DEVICES),
        "fields": complete_field,
        "statuses": _complete_status,
    }
    return by_kind[kind]


def complete_field(incomplete: str) -> list[str]:
    """Complete `FIELD=VALUE,...` of a grid or of `--set`.

    A field that is the only one left comes with its values, so that no shell puts a space behind the equals sign.
    """
    from bench.config.fields import AXIS_ALIASES, config_fields
    from bench.config.grid import PROFILE_AXIS

    name, equals, _ = incomplete.partition("=")
    if equals:
        return _last_of_list(incomplete, _field_values(name), after="=")
    names = [known for known in (*AXIS_ALIASES, *config_fields(), PROFILE_AXIS) if known.startswith(name)]
    if len(names) > 1:
        return [f"{known}=" for known in names]
    return [word for known in names for word in (f"{known}=", *(f"{known}={value}" for value in _field_values(known)))]


def _field_values(name: str) -> tuple[str, ...]:
    """Return the values that a field is known to take, or its default."""
    from typing import Literal, get_args, get_origin

    from bench.config.fields import AXIS_ALIASES, config_fields, field_value, format_value
    from bench.config.grid import PROFILE_AXIS, PROFILES
    from bench.config.settings import Settings
    from unept.config import LossConfig, ModelConfig

    name = AXIS_ALIASES.get(name, name)
    if name == PROFILE_AXIS:
        return tuple(PROFILES)
    if name in SLOTS:
        return attention_names(name)
    if name == "backbone":
        return BACKBONES
    if name not in config_fields():
        return ()
    kind = config_fields()[name].type
    if kind is bool:
        return ("true", "false")
    if get_origin(kind) is Literal:
        return tuple(map(str, get_args(kind)))
    return (format_value(field_value(Settings(model=ModelConfig(), loss=LossConfig()), name)),)


def complete_data(incomplete: str) -> list[str]:
    """Complete the kind of a data set, and folders after it."""
    from unept.data.scene_spec import KIND as SCENES
    from unept.data.scene_spec import VERSIONS
    from unept.data.source import KINDS

    generated = [SCENES, *(f"{SCENES}:{version}" for version in VERSIONS)]
    kind, colon, path = incomplete.partition(":")
    if colon and os.environ.get(VARIABLE, "").endswith("bash"):
        return []  # bash breaks words there and completes the path by itself
    if kind == SCENES:
        return _starting(incomplete, generated)
    if colon:
        return [f"{kind}:{name}" for name in complete_path(path) if name.endswith("/")]
    return _starting(incomplete, [*generated, *(f"{name}:" for name in KINDS if name != SCENES)])


def complete_path(incomplete: str) -> list[str]:
    """Complete a path that is part of a word; folders end in a slash."""
    folder, _, name = incomplete.rpartition("/")
    base = f"{folder}/" if folder or incomplete.startswith("/") else ""
    try:
        entries = sorted(user_path(base or ".").iterdir())
    except (OSError, ValueError):
        return []
    hidden = name.startswith(".")
    return [
        f"{base}{entry.name}{'/' * entry.is_dir()}"
        for entry in entries
        if entry.name.startswith(name)
        and (hidden or not entry.name.startswith("."))
        and entry.name == visible_text(entry.name)  # others cannot be typed
    ]


def _complete_status(incomplete: str) -> list[str]:
    from bench.study.options import RETRYABLE

    return _last_of_list(incomplete, RETRYABLE)


def _starting(incomplete: str, words: Iterable[str]) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _last_of_list(incomplete: str, words: Iterable[str], after: str = "") -> list[str]:
    """Complete the last of several values joined by commas, which may stand behind an equals sign."""
    start = max(incomplete.rfind(","), incomplete.rfind(after) if after else -1) + 1
    return [f"{incomplete[:start]}{word}" for word in words if word.startswith(incomplete[start:])]


# --- the shells ---------------------------------------------------------------------------------------------------


def answer(run: Callable[[], object], environment: MutableMapping[str, str] = os.environ) -> int:
    """Answer a shell's request, which is in the environment; returns the exit code.

    bash breaks words at `=` and `:` and replaces only the last piece. The pieces are put together before the request
    is answered, and what stands before the last piece is taken off the answers.
    """
    before = _join_bash_words(environment) if environment[VARIABLE].endswith("bash") else ""
    output = io.StringIO()
    code = 0
    with contextlib.redirect_stdout(output):
        try:
            run()
        except SystemExit as stop:  # how the request ends once it is answered
            code = int(stop.code or 0)
    lines = [line.removeprefix(before) for line in output.getvalue().splitlines()]
    if any(lines):
        print("\n".join(lines))
    return code


def _join_bash_words(environment: MutableMapping[str, str]) -> str:
    """Join the pieces of COMP_WORDS up to the word at the cursor; returns what bash keeps of that word."""
    if not environment[VARIABLE].startswith("complete"):
        return ""
    separator = "\n" if "\n" in environment.get("COMP_WORDS", "") else " "
    pieces = environment.get("COMP_WORDS", "").split(separator)
    at = int(environment.get("COMP_CWORD", "0"))
    pieces = [*pieces[: at + 1], *[""] * (at + 1 - len(pieces))]
    words: list[str] = []
    kept = ""
    glued = False
    for piece in pieces:
        if words and (piece in ("=", ":") or glued):
            kept = words[-1] if piece not in ("=", ":") else words[-1] + piece
            words[-1] += piece
        else:
            kept = ""
            words.append(piece)
        glued = piece in ("=", ":")
    environment["COMP_WORDS"] = "\n".join(words)
    environment["COMP_CWORD"] = str(len(words) - 1)
    return kept
