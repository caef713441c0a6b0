"""Reads checkpoint files of the released code (mmcv): weights, and the facts in their `meta`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unept.data.sample import Colour, is_class_name
from unept.utils.paths import quoted_path
from unept.utils.read_tensors import read_tensors

STRIP = (
    "; where mmcv is installed, and if you trust the file, keep its tensors alone and convert those: python -c "
    "\"import sys, torch; torch.save(torch.load(sys.argv[1], map_location='cpu', weights_only=False)['state_dict'], "
    "'weights.pth')\" {file}"
)
_PARALLEL = "module."  # prefix of every name under nn.DataParallel and DistributedDataParallel


@dataclass(frozen=True, kw_only=True)
class ReleasedFile:
    """Content of a file.

    Classes, palette and iteration are None if the file does not hold them in the expected form.
    """

    state_dict: dict[str, Tensor]
    classes: tuple[str, ...] | None
    palette: tuple[Colour, ...] | None
    iteration: int | None


def read_released(path: Path) -> ReleasedFile:
    """Read a checkpoint of mmcv (a dict of `state_dict`, `meta` and `optimizer`), or a state dict alone.

    Raises:
        ValueError: One line, for a file that is missing, damaged or without tensors, and for one with objects besides
            tensors and plain values, which are not unpickled: the line says how to remove them.
    """
    if path.is_dir():
        raise ValueError(f"{path}: a folder, no checkpoint")
    if not path.is_file():
        raise ValueError(f"{path}: file does not exist")
    try:
        content = read_tensors(path, "a checkpoint")
    except ValueError as error:
        hint = STRIP.format(file=quoted_path(path)) if "it holds a " in str(error) else ""
        raise ValueError(f"{error}{hint}") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: expected a checkpoint or a state dict, it holds a {type(content).__name__}")
    state = content.get("state_dict", content)
    named = isinstance(state, Mapping) and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in state.items())
    if not state or not named:
        raise ValueError(f"{path}: no state dict of tensors in it")
    if all(name.startswith(_PARALLEL) for name in state):
        state = {name.removeprefix(_PARALLEL): tensor for name, tensor in state.items()}
    meta = content.get("meta")
    meta = meta if isinstance(meta, Mapping) and state is not content else {}
    return ReleasedFile(
        state_dict=dict(state),
        classes=_names(meta.get("CLASSES")),
        palette=_colours(meta.get("PALETTE")),
        iteration=meta["iter"] if type(meta.get("iter")) is int else None,
    )


def _names(value: Any) -> tuple[str, ...] | None:
    fits = isinstance(value, list | tuple) and all(map(is_class_name, value))
    return tuple(value) if fits else None


def _colours(value: Any) -> tuple[Colour, ...] | None:
    if not isinstance(value, list | tuple):
        return None
    fits = all(
        isinstance(colour, list | tuple) and len(colour) == 3 and all(type(v) is int and 0 <= v <= 255 for v in colour)
        for colour in value
    )
    return tuple((red, green, blue) for red, green, blue in value) if fits else None
