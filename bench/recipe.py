"""One run: train one variant with one seed, evaluate it, return its numbers. Every variant takes this very path.

All randomness is a function of (seed, step): a run that is killed and continued from its last checkpoint sees the same
samples and the same dropout as one that was not, and ends with the same bits on the same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

import unept
from bench import checkpoint
from bench.config import Settings, TrainConfig, from_dict
from bench.evaluation import PROBE_COLUMNS, Progress, evaluate, probe, probe_steps, save_pictures
from unept import peers
from unept.data import Batches, TrainPipeline, open_data
from unept.losses import Losses, total_loss

CURVE_POINTS = 50


class NonFiniteError(ArithmeticError):
    """The loss or a gradient is not finite: the run has diverged."""


def run(spec: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Train and evaluate the run that `spec` describes; checkpoints go to `folder`, kept pictures to spec's `pictures`.

    Returns status, message, metrics (fractions), training facts and how they were evaluated. Raises NonFiniteError
    where the loss or a gradient is not finite.
    """
    settings = from_dict(spec["settings"])
    seed = int(spec["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    model = unept.build(settings.model, weights=settings.train.backbone_weights).to(device)
    training = train(model, settings, seed=seed, folder=folder, progress=progress)
    began = time.perf_counter()
    metrics, facts, pictures = evaluate(model, settings, progress=progress)
    facts = {**facts, **evaluation_seeds(model)}
    training["evaluation_seconds"] = time.perf_counter() - began
    if spec.get("pictures"):
        save_pictures(Path(spec["pictures"]), pictures)
    return {"status": "ok", "message": "", "metrics": metrics, "training": training, "evaluation": facts}


def train(model: nn.Module, settings: Settings, *, seed: int, folder: Path, progress: Progress) -> dict[str, Any]:
    """Train `model` in place for `settings.train.steps`, continuing from a checkpoint in `folder` if there is one."""
    config = settings.train
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, config)
    state = checkpoint.load(folder, model, optimizer)
    curve, probes = state.curve, state.probes
    looks = probe_steps(config.steps, config.probes)
    seconds, looking = state.seconds, state.probe_seconds
    model.train()
    began = time.perf_counter()
    for step, batch in _batches(settings, seed=seed, start=state.step, device=device):
        set_rates(optimizer, config, step)
        torch.manual_seed(_step_seed(seed, step))
        losses = train_step(model, optimizer, batch, settings)
        done = step + 1
        if done % max(1, config.steps // CURVE_POINTS) == 0 or done == config.steps:
            curve.append([done, *(term.item() for term in losses)])
            progress(done, config.steps, f"loss {losses.total.item():.3f}")
        if done in looks:
            paused = time.perf_counter()
            probes.append([done, *probe(model, settings)])
            paused = time.perf_counter() - paused
            began, looking = began + paused, looking + paused
        if done % config.checkpoint_every == 0 and done < config.steps:
            spent = seconds + time.perf_counter() - began
            now = checkpoint.State(step=done, seconds=spent, probe_seconds=looking, curve=curve, probes=probes)
            checkpoint.save(folder, model, optimizer, now)
    return {
        "seconds": seconds + time.perf_counter() - began,
        "curve": curve,
        "curve_columns": ["step", *Losses._fields],
        "probe": probes,
        "probe_columns": PROBE_COLUMNS,
        "probe_images": config.probe_images,
        "probe_seconds": looking,
        "resumed_at": state.step,
    }


def evaluation_seeds(model: nn.Module) -> dict[str, dict[str, int]]:
    """`attention_seeds`: those of the modules that are random in evaluation too, by name; {} where there is none."""
    seeds = {
        name: module.evaluation_seed for name, module in model.named_modules() if hasattr(module, "evaluation_seed")
    }
    return {"attention_seeds": seeds} if seeds else {}


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over every parameter, the backbone's at a factor of the rate (paper, section 4.2)."""
    groups: dict[bool, list[Tensor]] = {False: [], True: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups["backbone" in name].append(parameter)
    return torch.optim.AdamW(
        [
            {"params": groups[False], "lr": config.lr, "factor": 1.0},
            {"params": groups[True], "lr": config.lr * config.backbone_lr, "factor": config.backbone_lr},
        ],
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )


def set_rates(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    """Give each group the rate of `step`: its own factor, and the drop after `lr_drop` of the steps."""
    dropped = step >= round(config.steps * config.lr_drop)
    rate = config.lr * (config.lr_drop_factor if dropped else 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], settings: Settings
) -> Losses:
    """One optimisation step on one batch. Raises NonFiniteError before anything non-finite reaches the weights."""
    losses = loss_of(model(batch["image"]), batch, settings)
    if not math.isfinite(losses.total.item()):
        raise NonFiniteError(f"loss is {losses.total.item()}")
    optimizer.zero_grad(set_to_none=True)
    losses.total.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if not math.isfinite(float(norm)):
        raise NonFiniteError(f"gradient norm is {float(norm)}")
    optimizer.step()
    return losses


def loss_of(output: Any, batch: dict[str, Tensor], settings: Settings) -> Losses:
    """What the model's own kind of output is supervised with."""
    if isinstance(output, peers.Output):
        return peers.total_loss(output, batch["label"], settings.loss)
    return total_loss(
        output,
        batch["label"],
        batch["boundary"],
        batch["direction"],
        settings.loss,
        edge_threshold=settings.model.edge_threshold,
    )


def _step_seed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def training_batches(settings: Settings, seed: int) -> Batches:
    """The batches of one run, a pure function of (seed, step)."""
    dataset = open_data(settings.data, "train", settings.scenes)
    pipeline = TrainPipeline(
        settings.train,
        settings.loss,
        size=settings.model.size,
        classes=len(dataset.classes),
        boundary_truth=settings.model.spatial,
    )
    return Batches(dataset, pipeline, batch=settings.train.batch, seed=seed)


class _Steps(TorchDataset[dict[str, Tensor]]):
    """Item i is the whole batch of step i, so that loader processes keep the order of steps."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return self.batches.batch_at(step)


def _batches(
    settings: Settings, *, seed: int, start: int, device: torch.device
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    steps = range(start, settings.train.steps)
    loader = DataLoader(
        _Steps(training_batches(settings, seed)),
        sampler=steps,
        batch_size=None,
        num_workers=0 if device.type == "cpu" else 4,
    )
    for step, batch in zip(steps, loader, strict=True):
        yield step, {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
