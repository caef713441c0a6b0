"""Will a training step fit into this machine's memory? Advice, said before hours are spent; never a gate.

Arithmetic first: a bound that is generous for any attention, up to all pairs in every head. A step whose bound is below
what there is fits, and nothing more is done, so that a small study starts at once. Only a bound that reaches it has the
step predicted by tracing (`bench.profiling.memory.predict`), in seconds and without memory. What is predicted are live
tensors, of which a process holds more than that: what is said not to fit does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import environment
from bench.config.settings import Settings, settings_from_dict
from bench.results.rows import content_key

GIB = 1 << 30
PIXEL = 32 << 10  # bytes an input pixel of backbone, branches and heads; the most of any network here is 11 KiB
PAIR = 24  # bytes of a pair of tokens in a head: scores, weights, dropout, their gradients
SAMPLE = 16  # bytes of a channel of a sampled value, where they are held
LOGIT = 24  # bytes of a class at a pixel of the label
PARAMETER = 20  # bytes: itself, gradient, two moments, and what an update takes
MILLIONS = {"tiny_conv": 1, "tiny_vit": 1, "lite0": 5, "resnet50": 26, "resnet101": 45, "hrnet_w48": 70}
MOST_MILLIONS = 400  # parameters of any other backbone
HEAD_MILLIONS = 50  # of what stands on it with a width of 256, and 5 more of any
MORE = ("points", "levels", "size", "width", "heads", "ffn", "encoder_layers", "decoder_layers", "classes", "batch")


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a training can have, in bytes: a GPU's memory, by its name, or what is free of this machine's."""

    bytes: int
    gpu: str = ""

    def __str__(self) -> str:
        what = f"on the GPU ({self.gpu})" if self.gpu else "of memory free here"
        return f"{self.bytes / GIB:.1f} GiB {what}"


def room() -> Room:
    """That of the device which runs take."""
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return Room(bytes=card.total_memory, gpu=card.name)
    return Room(bytes=environment.available_memory_bytes())


def needs(settings: Sequence[Mapping[str, Any]], backend: str, there: Room, *, at_once: int = 1) -> dict[str, int]:
    """Bytes of a training step as predicted, by `content_key` of the settings (from `settings_to_dict`).

    Left out are settings of which so many fit at once by their bound, and those whose step cannot be traced, as it may
    be with a user's own module.
    """
    found = {}
    for key, each in {content_key(each): settings_from_dict(dict(each)) for each in settings}.items():
        if at_once * bound(each, backend) >= there.bytes and (needed := _predicted(each, backend, there)):
            found[key] = needed
    return found


def _predicted(settings: Settings, backend: str, there: Room) -> int | None:
    from bench.profiling.memory.predict import predict
    from bench.profiling.memory.setting import StepSetting

    setting = StepSetting(
        batch=settings.train.batch,
        size=settings.model.size,
        bounded=settings.loss.bounded,
        device="cuda" if there.gpu else "cpu",
    )
    try:
        with warnings.catch_warnings(action="ignore"):
            return predict(settings, setting, backend=backend).bytes
    except Exception:  # of a user's module or of the tracer: a run that fails has its row, and this is advice alone
        return None


def bound(settings: Settings, backend: str) -> int:
    """Bytes that no attention's training step exceeds that holds all pairs, or all samples where it takes those."""
    model, batch = settings.model, settings.train.batch
    pixels = batch * model.size**2
    queries = (-(-model.size // 8)) ** 2
    pairs = model.encoder_layers * (model.levels * queries) ** 2 + model.decoder_layers * queries**2
    tokens = queries * (model.levels * model.encoder_layers + 2 * model.decoder_layers)
    samples = tokens * model.levels * model.points * model.width if backend == "reference" else 0
    millions = MILLIONS.get(model.backbone, MOST_MILLIONS) + 5 + HEAD_MILLIONS * (model.width / 256) ** 2
    return round(
        pixels * (PIXEL + LOGIT * model.classes)
        + batch * (PAIR * model.heads * pairs + SAMPLE * samples + LOGIT * tokens * model.ffn)
        + PARAMETER * 1e6 * millions
    )


def beyond(settings: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """What `settings` ask for beyond `other`: "points=64 for 16"; "" where both are the same.

    None where they differ in anything but fields of which more takes at least as much memory, or ask for less.
    """
    mine, theirs = _flat(settings), _flat(other)
    if mine.keys() != theirs.keys():
        return None
    more = []
    for name in mine:
        if mine[name] == theirs[name]:
            continue
        if name.rpartition(".")[2] not in MORE or not mine[name] > theirs[name]:
            return None
        more.append(f"{name.rpartition('.')[2]}={mine[name]} for {theirs[name]}")
    return ", ".join(more)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found
