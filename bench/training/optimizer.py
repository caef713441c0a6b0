"""The optimizer of a training, and the learning rate of each of its steps."""

from __future__ import annotations

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from bench.config.settings import TrainConfig

_OFFSETS = ".sampling_offsets."  # in the names of the parameters that the sampling offsets are predicted by


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """Return AdamW over every parameter that is trained.

    The rate of the backbone (paper, section 4.2) and that of the sampling offsets have factors of their own. A group of
    the sampling offsets is there only where its factor is not 1, so that checkpoints without one can be read.
    """
    factors = {"head": 1.0, "backbone": config.backbone_lr}
    if config.offset_lr != 1:
        factors["offsets"] = config.offset_lr
    groups: dict[str, list[Tensor]] = {group: [] for group in factors}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[_group_of(name, factors.keys())].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[group], "lr": config.lr * factor, "factor": factor}
            for group, factor in factors.items()
            if groups[group] or group != "offsets"
        ],
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def _group_of(name: str, groups: Collection[str]) -> str:
    if "backbone" in name:
        return "backbone"
    return "offsets" if "offsets" in groups and _OFFSETS in f".{name}" else "head"


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the learning rate of the head in `step`, counted from 0.

    It rises in equal steps over `warmup` of the training, to its full value in the last of them. After that it is
    constant until the drop (`schedule` "step", whose `lr_drop` counts from the start), or falls to 0 along half a
    cosine ("cosine").
    """
    warm = round(config.steps * config.warmup)
    if step < warm:
        return config.lr * (step + 1) / warm
    if config.schedule == "cosine":
        return config.lr * (1 + math.cos(math.pi * (step - warm) / (config.steps - warm))) / 2
    return config.lr * (config.lr_drop_factor if step >= round(config.steps * config.lr_drop) else 1.0)


def schedule_text(config: TrainConfig) -> str:
    """Return the schedule of the head's learning rate in words, as in `rate 0.001, 0.0001 from step 333`."""
    warm = round(config.steps * config.warmup)
    parts = [f"rate rising to {config.lr:g} over {warm} steps" if warm else f"rate {config.lr:g}"]
    if config.schedule == "cosine":
        parts.append("falling to 0 along half a cosine")
    elif (drop := max(warm, round(config.steps * config.lr_drop))) < config.steps:
        parts.append(f"{config.lr * config.lr_drop_factor:g} from step {drop}")
    return ", ".join(parts)


def set_learning_rates(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    """Set each group's learning rate for `step`, counted from 0: that of the head, times the group's own factor."""
    rate = learning_rate(config, step)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
