"""Attention mechanisms: one a file, one interface, chosen by name or by ``module:Class``.

A self-attention is called with (tokens_BSC, position_BSC or None, shapes), a cross-attention with
(queries_BQC, memory_BSC, query_shape, shapes); ``shapes`` is ((H, W), ...) in plain integers. Both return what is added
to their first argument: residual, norm and dropout belong to the layer. A constructor is given those of the keywords
width, heads, levels, points, offset_init, dropout and layer (its place in the stack, from 0) that it names, and the
parameters of its own that the configuration has for its slot.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import MappingProxyType, ModuleType

from torch import nn

from unept.attention.deformable import DeformableCross, DeformableSelf
from unept.attention.dense_fused import DenseFusedSelf
from unept.attention.longformer import LongformerSelf
from unept.attention.multihead import BatchSelf, DenseCross, DenseSelf, PointwiseSelf
from unept.attention.none import NoCrossAttention, NoSelfAttention
from unept.attention.parameters import own_parameters, wanted
from unept.attention.reformer import ReformerSelf
from unept.attention.sparse_transformer import SparseTransformerSelf
from unept.catalogue import KEYWORDS, Parameter, attention_names, check_options, is_own_class
from unept.utils import torchvision_shim, user_code

__all__ = [
    "CROSS",
    "KEYWORDS",
    "NO_OPTIONS",
    "SELF",
    "Parameter",
    "attention_names",
    "attention_parameters",
    "check_slot",
    "is_batch_independent",
    "make_attention",
]

SELF: dict[str, type[nn.Module]] = {
    "deformable": DeformableSelf,
    "sparse_transformer": SparseTransformerSelf,
    "longformer": LongformerSelf,
    "reformer": ReformerSelf,
    "dense_math": DenseSelf,
    "dense_fused": DenseFusedSelf,
    "dense": DenseSelf,  # the older name of dense_math
    "pointwise": PointwiseSelf,
    "batch": BatchSelf,
    "none": NoSelfAttention,
}
CROSS: dict[str, type[nn.Module]] = {"deformable": DeformableCross, "dense": DenseCross, "none": NoCrossAttention}
_MIXES_BATCH = ("batch",)  # those of ours whose result for an image depends on the other images of the batch
NO_OPTIONS: Mapping[str, object] = MappingProxyType({})


def is_batch_independent(name: str) -> bool:
    """Return True if an image's result is known to be the same alone and beside others; False for a user's class."""
    return (name in SELF or name in CROSS) and name not in _MIXES_BATCH


def attention_parameters(slot: str, name: str) -> dict[str, Parameter]:
    """Return the own parameters of the attention ``name``, by name. ValueError for an unknown name."""
    return own_parameters(_find(slot, name))


def check_slot(slot: str, name: str, options: Mapping[str, object] = NO_OPTIONS) -> None:
    """Check that the attention ``name`` with ``options`` can be used in ``slot``; builds nothing.

    Raises:
        ValueError: In one line, for an unknown slot or name and for options that the class does not take.
    """
    check_options(f"{slot}={name}", own_parameters(_find(slot, name)), options)


def make_attention(
    slot: str, name: str, settings: Mapping[str, object], options: Mapping[str, object] = NO_OPTIONS
) -> nn.Module:
    """Build the attention ``name`` for ``slot``.

    Args:
        slot: encoder_self, decoder_self or decoder_cross.
        name: A name of SELF or CROSS, or ``module:Class``.
        settings: A value for each of KEYWORDS; the class gets those that its constructor names.
        options: Parameters of the class's own.

    Raises:
        ValueError: If the name is unknown, the constructor does not fit, or it refuses a value.
    """
    assert set(settings) == set(KEYWORDS), sorted(settings)
    kind = _find(slot, name)
    check_options(f"{slot}={name}", own_parameters(kind), options)
    keywords = {key: value for key, value in settings.items() if key in wanted(kind)}
    if ":" not in name:
        return kind(**keywords, **options)
    try:
        with user_code.running(f"making {name}"), user_code.seed_kept(f"making {name}"):
            module = kind(**keywords, **options)
    except TypeError as error:
        raise ValueError(f"{slot}={name} cannot be made: {error}") from error
    except SystemExit as error:
        raise ValueError(f"{slot}={name} cannot be made: {user_code.error_text(error)}") from None
    except user_code.UserCodeError as error:
        raise ValueError(f"{slot}={name}: {error}") from error
    user_code.CallGuard(module, f"a call of {name}")
    return module


def _find(slot: str, name: str) -> type[nn.Module]:
    if is_own_class(slot, name):
        return _find_user(slot, name)
    return (CROSS if slot == "decoder_cross" else SELF)[name]


def _find_user(slot: str, name: str) -> type[nn.Module]:
    module_name, _, class_name = name.partition(":")
    torchvision_shim.ensure()  # the module may import it
    kind = getattr(_import(slot, name, module_name), class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"{slot}={name}: {module_name} has no torch.nn.Module class {class_name}")
    return kind


def _import(slot: str, name: str, module_name: str) -> ModuleType:
    """Import a module from the installed packages, else from the working directory unless Python has a safe path.

    `sys.path` is restored afterwards.
    """
    before = list(sys.path)
    if not user_code.has_safe_path():
        sys.path.append(user_code.working_directory())
    importlib.invalidate_caches()
    try:
        with user_code.running(f"importing {module_name}"), user_code.random_numbers_kept():
            return importlib.import_module(module_name)
    except user_code.UserCodeError as error:
        raise ValueError(f"{slot}={name}: {error}") from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"{slot}={name}: importing {module_name} failed: {user_code.error_text(error)}") from error
    finally:
        sys.path[:] = before
