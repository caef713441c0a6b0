"""Parameters and operations of one image for any model, part by part, without weights or memory.

A network is a function that builds it, a name from timm, or a callable in a module of the user's own.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from bench.errors import message_line
from bench.profiling.flops import counter
from bench.profiling.image_size import ImageSize
from bench.profiling.network_spec import check_network_spec
from unept.utils import user_code

MakeNetwork = Callable[[], nn.Module]

COUNT_ALLOWANCE = 3.0  # times the limit of a user's code that counting a network may take


def complexity_record(name: str, make: MakeNetwork, size: ImageSize, *, quoted: str = "") -> dict[str, Any]:
    """Count one network on the meta device and return the counts as plain values.

    Args:
        name: The network's name, with which an error message begins.
        make: Builds the network.
        size: Height and width of the image, in pixels.
        quoted: Row of the paper's table that this network stands for; "" for none.

    Returns:
        `parameters`, `gmacs` (complete convention), `module_gmacs` (the paper's convention), `sampling_gmacs` (share of
        `gmacs` that is sampling), all in units of 1e9 multiply-adds, and the same per part under `parts`;
        `elementwise_gops`, in 1e9 elements that element-wise operators give.

    Raises:
        ValueError: The network cannot be built or run there, or runs an operator that is neither counted nor free.
    """
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with user_code.running(f"counting {name}", allowance=COUNT_ALLOWANCE):
                model = make().to("meta")
                counted = counter.count_model(model, size)
    except (Exception, SystemExit) as error:  # whatever a user's network raises
        one_of_ours = isinstance(error, ValueError)
        reason = str(error) if one_of_ours else f"cannot be counted: {type(error).__name__}: {error}"
        raise ValueError(f"{name}: {message_line(reason)}") from error
    return {
        "name": name,
        "quoted": quoted,
        "size": [*size],
        "parameters": counted.parameters,
        "module_gmacs": counted.module_gmacs,
        "gmacs": counted.gmacs,
        "sampling_gmacs": counted.sampling_gmacs,
        "elementwise_gops": counted.elementwise_gops,
        "parts": [asdict(part) for part in counted.parts],
    }


def network_from_spec(spec: str, size: ImageSize) -> MakeNetwork:
    """Return the function that builds the network which `timm:NAME` or `module:callable` names.

    A module is looked up among the installed packages, then in the working directory. Its callable takes no argument
    and returns a `torch.nn.Module`. It may import timm or torchvision.

    Args:
        spec: The network.
        size: Height and width of the image. One of timm that has a size of its own, such as a ViT, is built for it.

    Raises:
        ValueError: Nothing has that name, or importing the module fails.
    """
    from unept.utils import torchvision_shim

    check_network_spec(spec)
    torchvision_shim.ensure()
    module, _, name = spec.partition(":")
    if module == "timm" and name:
        return _from_timm(spec, name, size)
    build = getattr(_imported(spec, module), name, None)
    if not callable(build):
        raise ValueError(f"--model {spec}: {module} has no callable {name}")

    def make() -> nn.Module:
        network = build()
        if not isinstance(network, nn.Module):
            raise ValueError(f"{module}.{name}() gave a {type(network).__name__}, expected a torch.nn.Module")
        return network

    return make


def _from_timm(spec: str, name: str, size: ImageSize) -> MakeNetwork:
    import timm

    if not timm.is_model(name):  # checked here: timm itself would ask the network for some names
        near = difflib.get_close_matches(name, timm.list_models(), n=1)
        guess = f" (nearest: {near[0]})" if near else ""
        raise ValueError(f"--model {spec}: timm has no model {name!r}{guess}")

    known = timm.get_pretrained_cfg(name)
    resized = known is not None and known.fixed_input_size and tuple(known.input_size[1:]) != tuple(size)
    options: dict[str, Any] = {"img_size": size} if resized else {}

    def make() -> nn.Module:
        network: nn.Module = timm.create_model(name, pretrained=False, **options)
        return network

    return make


def _imported(spec: str, module: str) -> Any:
    """Return the module, from the installed packages or else the working directory; `sys.path` stays as it was."""
    path = list(sys.path)
    sys.path.append(user_code.working_directory())
    importlib.invalidate_caches()
    try:
        with user_code.running(f"importing {module}"), user_code.random_numbers_kept():
            return importlib.import_module(module)
    except user_code.UserCodeError as error:
        raise ValueError(f"--model {spec}: {error}") from error
    except (Exception, SystemExit) as error:
        reason = message_line(user_code.error_text(error))
        raise ValueError(f"--model {spec}: importing {module} failed: {reason}") from error
    finally:
        sys.path[:] = path
