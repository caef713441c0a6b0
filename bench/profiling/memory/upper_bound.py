"""Prediction whether a training step fits into this machine's memory, made before hours are spent: advice, never a
gate.

Arithmetic comes first: an upper bound that assumes all pairs in every head. A step whose bound is below the available
memory fits, and nothing more is done, so that a small study starts at once. Only a bound that reaches it has the step
predicted by tracing (`bench.profiling.memory.predict`), in seconds and without memory. Predicted are live tensors, of
which a process holds more than that: a step that is said not to fit does not.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import environment, user_code
from bench.config.checks import user_modules
from bench.config.settings import Settings, settings_from_dict, settings_to_dict
from bench.results.rows import content_key, nested_items
from bench.units import GIB

BYTES_PER_PIXEL = 32 << 10  # an input pixel in backbone, branches and heads; no network here has more than 11 KiB
BYTES_PER_PAIR = 24  # a pair of tokens in a head: scores, weights, dropout, their gradients
BYTES_PER_SAMPLE = 16  # a channel of a sampled value, where they are held
BYTES_PER_LOGIT = 24  # a class at a pixel of the label
BYTES_PER_PARAMETER = 20  # itself, gradient, two moments, and what an update takes
BACKBONE_MILLIONS = {"tiny_conv": 1, "tiny_vit": 1, "lite0": 5, "resnet50": 26, "resnet101": 45, "hrnet_w48": 70}
MAX_BACKBONE_MILLIONS = 400  # parameters of any other backbone
HEAD_MILLIONS = 50  # of what stands on it with a width of 256, and 5 more of any
GROWING_FIELDS = (
    "points",
    "levels",
    "size",
    "width",
    "heads",
    "ffn",
    "encoder_layers",
    "decoder_layers",
    "classes",
    "batch",
)


@dataclass(frozen=True, kw_only=True)
class AvailableMemory:
    """Memory for a training.

    Attributes:
        bytes: A GPU's memory, or the available memory of this machine.
        gpu: Name of the GPU; "" for the machine's memory.
    """

    bytes: int
    gpu: str = ""

    def __str__(self) -> str:
        what = f"on the GPU ({self.gpu})" if self.gpu else "of memory free here"
        return f"{self.bytes / GIB:.1f} GiB {what}"


def available_memory() -> AvailableMemory:
    """Return the memory of the device that runs use."""
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        return AvailableMemory(bytes=card.total_memory, gpu=card.name)
    return AvailableMemory(bytes=environment.available_memory_bytes())


def predict_needs(
    settings: Sequence[Mapping[str, Any]], backend: str, available: AvailableMemory, *, at_once: int = 1
) -> dict[str, int]:
    """Predict the bytes of a training step for settings that may not fit.

    Left out are settings of which `at_once` fit together by their bound, and those whose step cannot be traced, as it
    may be with a user's own module.

    Args:
        settings: Settings as plain values.
        backend: Backend of deformable attention.
        available: The available memory.
        at_once: Number of runs side by side.

    Returns:
        Bytes by `content_key` of the settings.
    """
    needed_by_key = {}
    for key, one in {content_key(one): settings_from_dict(dict(one)) for one in settings}.items():
        if at_once * step_upper_bound(one, backend) >= available.bytes and (
            needed := _predicted(one, backend, available)
        ):
            needed_by_key[key] = needed
    return needed_by_key


def _predicted(settings: Settings, backend: str, available: AvailableMemory) -> int | None:
    """Return the bytes of a training step; None where it cannot be traced. A user's module has a process of its own."""
    arguments = (settings_to_dict(settings), backend, "cuda" if available.gpu else "cpu")
    own = ", ".join(user_modules(settings.model))
    try:
        if own:
            needed = user_code.call_isolated("bench.profiling.memory.upper_bound:traced_bytes", *arguments, about=own)
        else:
            needed = traced_bytes(*arguments)
    except Exception:  # of a user's module or of the tracer: a run that fails has its row, and this is advice alone
        return None
    return int(needed)


def traced_bytes(settings: Mapping[str, Any], backend: str, device: str) -> int:
    """Return the bytes of a training step of settings as plain values, on "cuda" or "cpu"."""
    from bench.profiling.memory.predict import predict_peak
    from bench.profiling.memory.setting import StepSetting

    made = settings_from_dict(dict(settings))
    setting = StepSetting(batch=made.train.batch, size=made.model.size, bounded=made.loss.bounded, device=device)
    with warnings.catch_warnings(action="ignore"):
        return predict_peak(made, setting, backend=backend).bytes


def step_upper_bound(settings: Settings, backend: str) -> int:
    """Return an upper bound in bytes of one training step, assuming all pairs are stored (for "reference", all samples
    too).
    """
    model, batch = settings.model, settings.train.batch
    pixels = batch * model.size**2
    queries = (-(-model.size // 8)) ** 2
    pairs = model.encoder_layers * (model.levels * queries) ** 2 + model.decoder_layers * queries**2
    tokens = queries * (model.levels * model.encoder_layers + 2 * model.decoder_layers)
    samples = tokens * model.levels * model.points * model.width if backend == "reference" else 0
    millions = (
        BACKBONE_MILLIONS.get(model.backbone, MAX_BACKBONE_MILLIONS) + 5 + HEAD_MILLIONS * (model.width / 256) ** 2
    )
    return round(
        pixels * (BYTES_PER_PIXEL + BYTES_PER_LOGIT * model.classes)
        + batch
        * (BYTES_PER_PAIR * model.heads * pairs + BYTES_PER_SAMPLE * samples + BYTES_PER_LOGIT * tokens * model.ffn)
        + BYTES_PER_PARAMETER * 1e6 * millions
    )


def extra_demand(settings: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return what `settings` ask for beyond `other`: "points=64 for 16"; "" where both are the same.

    None where they ask for less, or differ in a field outside GROWING_FIELDS (of which more takes at least as much
    memory).
    """
    mine, theirs = ({".".join(path): value for path, value in nested_items(values)} for values in (settings, other))
    if mine.keys() != theirs.keys():
        return None
    more = []
    for name in mine:
        if mine[name] == theirs[name]:
            continue
        if name.rpartition(".")[2] not in GROWING_FIELDS or not mine[name] > theirs[name]:
            return None
        more.append(f"{name.rpartition('.')[2]}={mine[name]} for {theirs[name]}")
    return ", ".join(more)
