"""Findings of the trial of a user's attention before it trains: `trials/KEY.json` in a study's folder.

A trial belongs to a slot, the class in it with its parameters and its sources, and the sizes that it is made with. So
rows tell which trials are theirs. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.results.rows import content_key
from unept.config import SLOTS
from unept.utils.atomic_files import atomic_write

FOLDER = "trials"
SCHEMA = 1
MADE_WITH = ("width", "heads", "levels", "points", "offset_init", "dropout", "size")  # fields of the model


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A user's attention in a slot, as a spec or a row has it.

    Attributes:
        key: Identifies what is tried.
        slot: Slot of the model.
        attention: `module:Class`.
        variant: Name of the variant.
    """

    key: str
    slot: str
    attention: str
    variant: str


def trials_of(rows: Iterable[Mapping[str, Any]]) -> Iterator[Trial]:
    """Yield each variant's trials once; rows are result rows or specs of jobs."""
    seen = set()
    for row in rows:
        model, roles = row.get("settings", {}).get("model", {}), row.get("roles", {})
        for slot in SLOTS:
            attention = model.get(slot)
            if not isinstance(attention, str) or ":" not in attention:
                continue
            own = model.get("attention_options") or {}
            options = [[name, own[name]] for name in sorted(own) if name.startswith(f"{slot}.")]
            sources = {role: digest for role, digest in roles.items() if role.startswith("user:")}
            sizes = {name: model.get(name) for name in MADE_WITH}
            key = content_key({"slot": slot, "name": attention, "options": options, "sizes": sizes, "sources": sources})
            trial = Trial(key=key, slot=slot, attention=attention, variant=str(row.get("variant")))
            if trial not in seen:
                seen.add(trial)
                yield trial


def write_trial(out: Path, trial: Trial, findings: Iterable[str], *, ended: bool) -> None:
    """Keep what was found, one line each; no line for an attention that holds what it must.

    Args:
        out: Folder of the study.
        trial: What was tried.
        findings: The lines.
        ended: False for a trial that was stopped for its time: it is made again.
    """
    content = {"schema": SCHEMA, "slot": trial.slot, "attention": trial.attention, "ended": ended}
    path = _path(out, trial.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, f"{json.dumps(content | {'findings': [*findings]}, indent=1)}\n".encode())


def read_findings(out: Path, key: str) -> tuple[str, ...]:
    """Return what was found in a trial; () where it was not made or its file is damaged."""
    return tuple(map(str, (_content(out, key) or {}).get("findings", ())))


def is_tried(out: Path, key: str) -> bool:
    """Return True for a trial that was made and came to its end."""
    content = _content(out, key)
    return content is not None and content.get("ended") is True


def trial_warnings(out: Path, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each finding about the attentions of these rows, with the variants that it concerns."""
    variants: dict[str, list[str]] = {}
    for trial in trials_of(rows):
        for finding in read_findings(out, trial.key):
            variants.setdefault(f"{trial.attention} in {trial.slot} fails {finding}", []).append(trial.variant)
    return [f"{', '.join(dict.fromkeys(names))}: {text}" for text, names in variants.items()]


def _content(out: Path, key: str) -> dict[str, Any] | None:
    """Return a trial's file; None where it is not there, damaged, or of another schema."""
    try:
        content = json.loads(_path(out, key).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(content, dict) and content.get("schema") == SCHEMA and isinstance(content.get("findings"), list)
    return content if whole else None


def _path(out: Path, key: str) -> Path:
    return out / FOLDER / f"{key}.json"
