"""One run: train one variant with one seed, evaluate it, return its numbers. Every variant takes this very path.

All randomness is a function of (seed, step): a run that is killed and continued from its last checkpoint sees the same
samples and the same dropout as one that was not, and ends with the same bits on the same number of threads.

`unept-bench train` takes the same path, on several processes too: each has its part of every batch, and dropout is then
a function of (seed, step, process). `Execution` and `ProcessGroup` say how; a study's runs are PLAIN and ALONE.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

import unept
from bench.config.settings import Settings, TrainConfig, settings_from_dict
from bench.distributed import SINGLE, ProcessGroup
from bench.evaluation.evaluate import PROBE_COLUMNS, Progress, evaluate, probe, probe_steps, save_pictures
from bench.training import checkpoint
from bench.training.execution import (
    DEFAULT_EXECUTION,
    Execution,
    autocast_context,
    check_batch,
    no_gradient_sync,
    prepare_model,
)
from unept import published
from unept.data import Batches, TrainPipeline, open_data
from unept.losses.total_loss import BatchTotals, Losses, total_loss

CURVE_POINTS = 50


class NonFiniteError(ArithmeticError):
    """The loss or a gradient is not finite: the run has diverged."""


class TrainingStopped(Exception):
    """The training was asked to stop, and its checkpoint is of the step that `args` names."""


class Callback:
    """Told what a training does, in every process, and asked whether to go on; this one does nothing.

    The time it takes is not the training's.
    """

    def on_train_start(self, step: int) -> None:
        """Training starts, or goes on after `step` steps."""

    def should_checkpoint(self, step: int) -> bool:  # noqa: ARG002 - this one never does
        """Whether a checkpoint is to be there before `stepped` is told of `step`; all processes say the same."""
        return False

    def on_step_end(self, step: int, losses: Losses, rate: float) -> None:
        """`step` steps are done; the losses are those of the last one's whole batch, the rate is the head's.

        It may raise Stopped for a step that is kept.
        """

    def on_checkpoint_saved(self, step: int) -> None:
        """A checkpoint of that step is on the disk."""

    def should_stop(self) -> bool:
        """Whether to stop after this step; it is enough that one process says so."""
        return False


def train_and_evaluate(spec: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Train and evaluate the run that `spec` describes; checkpoints go to `folder`, kept pictures to spec's `pictures`.

    Returns status, message, metrics (fractions), training facts and how they were evaluated. Raises NonFiniteError
    where the loss or a gradient is not finite.
    """
    settings = settings_from_dict(spec["settings"])
    seed = int(spec["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    model = unept.build(settings.model, weights=settings.train.backbone_weights).to(device)
    training = train(model, settings, seed=seed, folder=folder, progress=progress)
    began = time.perf_counter()
    metrics, facts, pictures = evaluate(model, settings, progress=progress)
    facts = {**facts, **attention_seeds(model)}
    training["evaluation_seconds"] = time.perf_counter() - began
    if spec.get("pictures"):
        save_pictures(Path(spec["pictures"]), pictures)
    return {"status": "ok", "message": "", "metrics": metrics, "training": training, "evaluation": facts}


def train(
    model: nn.Module,
    settings: Settings,
    *,
    seed: int,
    folder: Path,
    progress: Progress,
    execution: Execution = DEFAULT_EXECUTION,
    group: ProcessGroup = SINGLE,
    callback: Callback | None = None,
) -> dict[str, Any]:
    """Train `model` in place for `settings.train.steps`, continuing from a checkpoint in `folder` if there is one.

    Several processes read the same folder, and the first of them writes. Raises Stopped where `watch` asks for it,
    after a checkpoint.
    """
    config, callback = settings.train, callback or Callback()
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, config)
    state = checkpoint.load_checkpoint(folder, model, optimizer)
    curve, probes = state.curve, state.probes
    looks = probe_steps(config.steps, config.probes)
    seconds, looking = state.seconds, state.probe_seconds
    model.train()
    called = prepare_model(model, execution, group, size=settings.model.size)
    callback.on_train_start(state.step)
    began = time.perf_counter()

    def save(done: int) -> None:
        spent = seconds + time.perf_counter() - began
        if group.is_main_process:
            now = checkpoint.TrainState(step=done, seconds=spent, probe_seconds=looking, curve=curve, probes=probes)
            checkpoint.save_checkpoint(folder, model, optimizer, now)
        group.barrier()
        callback.on_checkpoint_saved(done)

    for step, batch in _batches(settings, seed=seed, start=state.step, device=device, execution=execution, group=group):
        set_learning_rates(optimizer, config, step)
        torch.manual_seed(_step_seed(seed, step, group.rank))
        losses = train_step(called, optimizer, batch, settings, execution, group)
        done = step + 1
        if done % max(1, config.steps // CURVE_POINTS) == 0 or done == config.steps:
            curve.append([done, *(term.item() for term in losses)])
            progress(done, config.steps, f"loss {losses.total.item():.3f}")
        if done in looks:
            paused = time.perf_counter()
            if group.is_main_process:
                probes.append([done, *probe(model, settings)])
            paused = time.perf_counter() - paused
            began, looking = began + paused, looking + paused
        if due := done < config.steps and (done % config.checkpoint_every == 0 or callback.should_checkpoint(done)):
            save(done)
        paused = time.perf_counter()
        callback.on_step_end(done, losses, optimizer.param_groups[0]["lr"])
        began += time.perf_counter() - paused
        if group.any_process(callback.should_stop(), device) and done < config.steps:
            if not due:
                save(done)
            raise TrainingStopped(done)
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


def attention_seeds(model: nn.Module) -> dict[str, dict[str, int]]:
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


def set_learning_rates(optimizer: torch.optim.Optimizer, config: TrainConfig, step: int) -> None:
    """Give each group the rate of `step`: its own factor, and the drop after `lr_drop` of the steps."""
    dropped = step >= round(config.steps * config.lr_drop)
    rate = config.lr * (config.lr_drop_factor if dropped else 1.0)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    settings: Settings,
    execution: Execution = DEFAULT_EXECUTION,
    group: ProcessGroup = SINGLE,
) -> Losses:
    """One optimisation step on this process's part of a batch; returns the losses of the whole of it.

    Raises NonFiniteError, in every process, before anything non-finite reaches the weights.
    """
    optimizer.zero_grad(set_to_none=True)  # first, so that the forward pass does not hold the old gradients
    losses = _accumulate_gradients(model, batch, settings, execution, group)
    if not math.isfinite(losses.total.item()):
        raise NonFiniteError(f"loss is {losses.total.item()}")
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    if not math.isfinite(float(norm)):
        raise NonFiniteError(f"gradient norm is {float(norm)}")
    optimizer.step()
    return losses


def _accumulate_gradients(
    model: nn.Module, batch: dict[str, Tensor], settings: Settings, execution: Execution, group: ProcessGroup
) -> Losses:
    """Run forward and backward passes over the micro-batches and leave the whole batch's gradient in the parameters.

    One micro-batch in one process is the loss's own backward pass. With global normalization each micro-batch has its
    share of the batch's losses, and the shares add up; DistributedDataParallel divides their sum by the number of
    processes. With normalization by device each micro-batch has losses of its own, and the batch's are their mean.
    """
    micro_batches, device = execution.accumulation, batch["image"].device
    pieces = group.size * micro_batches
    shared = execution.loss_normalization == "global" and pieces > 1
    totals = None
    if shared:
        totals = BatchTotals.from_targets(
            batch["label"], batch["boundary"], all_reduce_sum=group.all_reduce_sum, micro_batches=micro_batches
        )
    scale = float(group.size) if shared else 1 / micro_batches
    chunks = {name: tensor.chunk(micro_batches) for name, tensor in batch.items()}
    found = []
    for index in range(micro_batches):
        piece = {name: parts[index] for name, parts in chunks.items()}
        with no_gradient_sync(model) if index < micro_batches - 1 else nullcontext():
            with autocast_context(execution, device):
                losses = compute_losses(model(_in_memory_format(piece["image"], execution)), piece, settings, totals)
            (losses.total if scale == 1 else losses.total * scale).backward()
        found.append(torch.stack(losses).detach())
    total = group.all_reduce_sum(torch.stack(found).sum(0))
    return Losses(*(total if shared or pieces == 1 else total / pieces))


def _in_memory_format(image_B3HW: Tensor, execution: Execution) -> Tensor:
    return image_B3HW.contiguous(memory_format=torch.channels_last) if execution.channels_last else image_B3HW


def compute_losses(
    output: Any, batch: dict[str, Tensor], settings: Settings, totals: BatchTotals | None = None
) -> Losses:
    """What the model's own kind of output is supervised with; `totals` where the batch is a part of one."""
    if isinstance(output, published.Output):
        return published.total_loss(output, batch["label"], settings.loss, totals)
    return total_loss(
        output,
        batch["label"],
        batch["boundary"],
        batch["direction"],
        settings.loss,
        edge_threshold=settings.model.edge_threshold,
        totals=totals,
    )


def _step_seed(seed: int, step: int, rank: int = 0) -> int:
    words = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


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
    """Item i is a process's part of the batch of step i, so that loader processes keep the order of steps."""

    def __init__(self, batches: Batches, group: ProcessGroup) -> None:
        self.batches, self.group = batches, group

    def __getitem__(self, step: int) -> dict[str, Tensor]:
        return self.batches.batch_at(step, part=self.group.rank, parts=self.group.size)


def _batches(
    settings: Settings,
    *,
    seed: int,
    start: int,
    device: torch.device,
    execution: Execution = DEFAULT_EXECUTION,
    group: ProcessGroup = SINGLE,
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    check_batch(settings.train.batch, group.size, execution.accumulation)
    steps = range(start, settings.train.steps)
    loader = DataLoader(
        _Steps(training_batches(settings, seed), group),
        sampler=steps,
        batch_size=None,
        num_workers=execution.loaders(device),
    )
    for step, batch in zip(steps, loader, strict=True):
        yield step, {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}
