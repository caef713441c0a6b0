"""What any model costs, without weights or memory: parameters and operations of one picture, part by part.

A network is given as a function that builds it, by name from timm, or as a callable of a module of the user's own.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from bench.profiling.flops import counter
from bench.profiling.image_size import Size

Make = Callable[[], nn.Module]


def record(name: str, make: Make, size: Size, *, quoted: str = "") -> dict[str, Any]:
    """One network's counts as plain values; `quoted` is the row of the paper's table that it stands for.

    Built and run on the meta device. Raises ValueError, in one line that begins with the name, where the network cannot
    be built or run there, or runs an operator that is neither counted nor free.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            model = make().to("meta")
            counted = counter.count(model, size)
    except Exception as error:  # whatever a user's network raises
        known = isinstance(error, ValueError)
        reason = str(error) if known else f"cannot be counted: {type(error).__name__}: {error}"
        raise ValueError(f"{name}: {_line(reason)}") from error
    return {
        "name": name,
        "quoted": quoted,
        "size": [*size],
        "parameters": counted.parameters,
        "module_gmacs": counted.module_gmacs,
        "gmacs": counted.gmacs,
        "sampling_gmacs": counted.sampling_gmacs,
        "parts": [asdict(part) for part in counted.parts],
    }


def named(spec: str) -> Make:
    """The network that `timm:NAME` or `module:callable` names. Raises ValueError where there is none of that name.

    A module is looked up among the installed packages, then in the working directory; its callable takes no argument
    and gives a `torch.nn.Module`.
    """
    module, _, name = spec.partition(":")
    if module == "timm" and name:
        return _from_timm(spec, name)
    dotted = all(part.isidentifier() for part in module.split("."))
    if not (dotted and name.isidentifier()):
        raise ValueError(f"--model {spec}: expected timm:NAME or module:callable, as in timm:resnet101")
    found = getattr(_imported(spec, module), name, None)
    if not callable(found):
        raise ValueError(f"--model {spec}: {module} has no callable {name}")

    def make() -> nn.Module:
        made = found()
        if not isinstance(made, nn.Module):
            raise ValueError(f"{module}.{name}() gave a {type(made).__name__}, expected a torch.nn.Module")
        return made

    return make


def _from_timm(spec: str, name: str) -> Make:
    from unept.utils import torchvision_shim

    torchvision_shim.ensure()
    import timm

    if not timm.is_model(name):  # checked here: timm itself would ask the network for some names
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        guess = f" (nearest: {near[0]})" if near else ""
        raise ValueError(f"--model {spec}: timm has no model {name!r}{guess}")

    def make() -> nn.Module:
        made: nn.Module = timm.create_model(name, pretrained=False)
        return made

    return make


def _imported(spec: str, module: str) -> Any:
    """The module, from the installed packages or else the working directory; `sys.path` is as before afterwards."""
    before = list(sys.path)
    sys.path.append(os.getcwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise ValueError(f"--model {spec}: importing {module} failed: {_line(reason)}") from error
    finally:
        sys.path[:] = before


def _line(text: str) -> str:
    """At most 300 characters of the text, on one line."""
    return " ".join(text.split())[:300]
