"""Reads files of tensors from others; unpickles nothing but tensors and plain values."""

from __future__ import annotations

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from unept.utils.paths import quoted_path

_REFUSED = re.compile(r"GLOBAL (\S+)")


def read_tensors(path: Path, what: str) -> Any:
    """Read a .safetensors file or one of `torch.save`, on the CPU.

    Args:
        path: File to read.
        what: Description of the expected content, for messages.

    Returns:
        The content. A file with any object besides tensors and plain values is refused, and its class is named.

    Raises:
        ValueError: Names the file and `what`.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about pickles of other versions
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = _REFUSED.search(str(error))
        reason = f"it holds a {refused[1]}, and nothing but tensors is unpickled" if refused else "no file of tensors"
        raise ValueError(f"{quoted_path(path)} cannot be read as {what}: {reason}") from None
    except Exception as error:  # a changed byte makes the readers raise a dozen kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{quoted_path(path)} cannot be read as {what}: {reason}") from error
