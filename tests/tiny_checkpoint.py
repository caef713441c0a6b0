"""A checkpoint of the embedded scenes that takes milliseconds: random weights, with sharp and changing predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import unept
from unept.checkpoints import model_file
from unept.data import open_data

CONFIG = unept.ModelConfig(
    backbone="tiny_conv",
    size=64,
    classes=7,
    width=16,
    heads=2,
    points=2,
    ffn=16,
    encoder_layers=1,
    decoder_layers=1,
    spatial_widths=(4, 6),
    head_width=8,
    dropout=0.0,
)


def write(path: Path, *, seed: int = 0, facts: dict[str, Any] | None = None, **changes: Any) -> unept.ModelConfig:
    """A checkpoint at `path`; `changes` are of its configuration."""
    config = replace(CONFIG, **changes)
    torch.manual_seed(seed)
    model = unept.build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        model.train()
        for _ in range(20):  # running means of batch norms
            model(torch.randn(2, 3, 64, 64))
    names, palette = classes_of(config.classes)
    model_file.save_model(path, model.eval(), config, classes=names, palette=palette, facts=facts or {"base": [64, 64]})
    return config


def classes_of(count: int) -> tuple[tuple[str, ...], tuple[tuple[int, int, int], ...]]:
    """Names and colours of the scenes for seven classes, and made up ones for another number."""
    scenes = open_data("scenes", "val")
    if count == len(scenes.classes):
        return scenes.classes, scenes.palette
    return tuple(f"kind {i}" for i in range(count)), tuple((i, 0, 255 - i) for i in range(count))
