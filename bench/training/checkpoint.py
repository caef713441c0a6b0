"""Mid-run checkpoints: safetensors for the tensors, JSON for the rest, written atomically, never unpickled."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from bench.errors import message_line
from bench.results.shapes import NUMBER, check_shape, read_json
from unept.checkpoints.model_file import digest_of
from unept.utils.atomic_files import atomic_write

CHECKPOINT_FILE = "last.safetensors"
_NUMBER = (int, float)
STATE_SHAPE = {"step": int, "seconds": _NUMBER, "probe_seconds": _NUMBER, "curve": [[NUMBER]], "probes": [[NUMBER]]}


@dataclass(frozen=True, kw_only=True)
class TrainState:
    """Progress of a training.

    Args:
        step: Steps done.
        seconds: Time spent in training.
        probe_seconds: Time spent in probes.
        curve: Rows of the loss curve so far.
        probes: Rows of the probes so far.
    """

    step: int = 0
    seconds: float = 0.0
    probe_seconds: float = 0.0
    curve: list[list[float]] = field(default_factory=list)
    probes: list[list[float | None]] = field(default_factory=list)


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, state: TrainState) -> None:
    """Replace the checkpoint in `folder`; a crash at any instant leaves the old one or the new one, whole."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    pointers = set()
    for name, tensor in model.state_dict().items():  # what two modules share is written twice: the format has no links
        tensors[f"model.{name}"] = tensor.clone() if tensor.data_ptr() in pointers else tensor.contiguous()
        pointers.add(tensor.data_ptr())
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.contiguous() for name, tensor in values.items()}
    facts = json.dumps(dataclasses.asdict(state))
    atomic_write(
        folder / CHECKPOINT_FILE,
        to_bytes(tensors, metadata={"state": facts, "sha256": digest_of(facts, tensors)}),
        alone=True,
    )


def load_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainState:
    """Restore model and optimizer from `folder`.

    A damaged file is renamed, which standard error says, and the run starts over.

    Returns:
        The progress of the restored state; a new TrainState where there is no checkpoint.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return TrainState()
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            facts, digest = ((file.metadata() or {}).get(name, "") for name in ("state", "sha256"))
        if digest != digest_of(facts, tensors):
            raise ValueError("not what was written: SHA-256")
        content = read_json(facts)
        check_shape(content, STATE_SHAPE)
        state = TrainState(**content)
        optimizer_state = _optimizer_state(tensors, optimizer)
        _check_tensors(_under("model.", tensors), model.state_dict())
    except (SafetensorError, ValueError, TypeError, OSError, RuntimeError, AttributeError) as error:
        with suppress(FileNotFoundError):  # another process of the same training has renamed it
            path.replace(folder / f"{CHECKPOINT_FILE}.damaged")
        print(f"checkpoint {path} is damaged ({message_line(error)}); the run starts over", file=sys.stderr)
        return TrainState()
    model.load_state_dict(_under("model.", tensors))
    optimizer.load_state_dict(optimizer_state)
    return state


def _optimizer_state(tensors: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the state dict of the optimizer. ValueError where a tensor belongs to none of its parameters."""
    groups = optimizer.state_dict()["param_groups"]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    by_parameter: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        if not index.isdecimal() or int(index) >= len(parameters):
            raise ValueError(f"optimizer.{name} belongs to no parameter")
        if tensor.dim() and tensor.shape != parameters[int(index)].shape:
            raise ValueError(f"optimizer.{name} has another shape than its parameter")
        by_parameter.setdefault(int(index), {})[key] = _laid_out_like(parameters[int(index)], tensor)
    return {"state": by_parameter, "param_groups": groups}


def _check_tensors(stored: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Raise ValueError unless both have the same names and shapes."""
    for name in {**own, **stored}:
        if name not in own or name not in stored or own[name].shape != stored[name].shape:
            raise ValueError(f"model.{name} is not that of this model")


def _laid_out_like(parameter: Tensor, state: Tensor) -> Tensor:
    """Return a moment in its parameter's memory format: the fused optimizer reads both in the order of their memory."""
    if state.shape != parameter.shape or state.stride() == parameter.stride():
        return state
    return torch.empty_like(parameter, dtype=state.dtype, device=state.device).copy_(state)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
