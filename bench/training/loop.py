"""One run: train one variant with one seed, evaluate it, return its numbers. Every variant takes the same path.

All randomness is a function of (seed, step): a run that is killed and continued from its last checkpoint sees the same
samples and the same dropout as one that was not, and ends with the same bits on the same number of threads.

`unept-bench train` takes the same path, on several processes too: each has its part of every batch, and dropout is then
a function of (seed, step, process). `Execution` and `ProcessGroup` say how; a study's runs use `study_execution` in a
SINGLE process.
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
from bench.config.settings import Settings, settings_from_dict
from bench.distributed import SINGLE, ProcessGroup
from bench.evaluation.evaluate import PROBE_COLUMNS, Progress, evaluate_model, probe_model, probe_steps, save_pictures
from bench.training import checkpoint
from bench.training.execution import (
    DEFAULT_EXECUTION,
    Execution,
    autocast_context,
    describe_arithmetic,
    no_gradient_sync,
    prepare_model,
    set_memory_format,
    study_execution,
)
from bench.training.optimizer import make_optimizer, set_learning_rates
from bench.training.options import check_batch
from bench.training.stopwatch import Stopwatch
from unept import published
from unept.checkpoints.model_file import check_storable
from unept.data import Batches, TrainPipeline, open_data
from unept.losses.total_loss import BatchTotals, Losses, total_loss
from unept.utils.finite import NonFiniteError, non_finite_in, non_finite_names, one_and_more

CURVE_POINTS = 50


class TrainingStopped(Exception):
    """Raised when the training was asked to stop; `args` holds the step of its checkpoint."""


class Callback:
    """Hooks of the training loop, called in every process; these do nothing. Their time is not counted as training."""

    def on_train_start(self, step: int) -> None:
        """Called before training starts, or continues after `step` steps."""

    def should_checkpoint(self, step: int) -> bool:  # noqa: ARG002 - this one never does
        """Return True to save a checkpoint at `step` before `on_step_end` runs; all processes return the same."""
        return False

    def on_step_end(self, step: int, losses: Losses, learning_rate: float) -> None:
        """Called after each step; may raise TrainingStopped for a step with a checkpoint.

        Args:
            step: Steps done, from 1.
            losses: Losses of the step's whole batch.
            learning_rate: That of the head.
        """

    def on_checkpoint_saved(self, step: int) -> None:
        """Called when a checkpoint of `step` is on the disk."""

    def should_stop(self) -> bool:
        """Return True to stop after this step; one process that does is enough."""
        return False


def train_and_evaluate(spec: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:
    """Train and evaluate the run that `spec` describes.

    Args:
        spec: Holds `settings`, `seed`, and optionally `pictures`, the file for predictions that are kept.
        folder: Folder of the checkpoints.
        progress: Called as progress(done, total, message).

    Returns:
        The row's `status`, `message`, `metrics` (fractions), `training` and `evaluation`.

    Raises:
        NonFiniteError: Where a loss, a gradient, a trained weight or an output is not finite: the run has diverged.
    """
    settings = settings_from_dict(spec["settings"])
    seed = int(spec["seed"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed)
    model = unept.build(settings.model, weights=settings.train.backbone_weights).to(device)
    execution = study_execution(device)
    training = train(model, settings, seed=seed, folder=folder, progress=progress, execution=execution)
    began = time.perf_counter()
    with non_finite_in("final evaluation"):
        metrics, facts, pictures = evaluate_model(model, settings, progress=progress)
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

    Several processes read the same folder, and the main process writes.

    Args:
        model: The model, on its device.
        settings: What is trained.
        seed: Random seed for sampling and dropout.
        folder: Folder of the checkpoint.
        progress: Called as progress(done, total, message).
        execution: Precision, micro-batches and recomputation.
        group: The processes that train together.
        callback: Hooks; None for none.

    Returns:
        Facts of the training: seconds, loss curve, probes.

    Raises:
        NonFiniteError: Where a loss, a gradient, an output in a probe or a weight after the last step is not finite.
        ValueError: At once, if the model holds what a checkpoint cannot.
        TrainingStopped: Where `callback` asks for it, after a checkpoint.
    """
    config, callback = settings.train, callback or Callback()
    device = next(model.parameters()).device
    set_memory_format(model, execution)
    optimizer = make_optimizer(model, config)
    check_storable(model.state_dict())
    placeholders = non_finite_names(model.state_dict())  # such as a mask of minus infinity that a module brings along
    state = checkpoint.load_checkpoint(folder, model, optimizer)
    curve, probes = state.curve, state.probes
    probe_at = probe_steps(config.steps, config.probes)
    model.train()
    wrapped_model = prepare_model(model, execution, group, size=settings.model.size)
    callback.on_train_start(state.step)
    clock = Stopwatch(state.seconds, state.probe_seconds)

    def save(done: int) -> None:
        if group.is_main_process:
            snapshot = checkpoint.TrainState(
                step=done, seconds=clock.seconds, probe_seconds=clock.probe_seconds, curve=curve, probes=probes
            )
            checkpoint.save_checkpoint(folder, model, optimizer, snapshot)
        group.barrier()
        callback.on_checkpoint_saved(done)

    for step, batch in _batches(settings, seed=seed, start=state.step, device=device, execution=execution, group=group):
        set_learning_rates(optimizer, config, step)
        torch.manual_seed(_step_seed(seed, step, group.rank))
        done = step + 1
        with non_finite_in(f"step {done}"):
            losses = train_step(wrapped_model, optimizer, batch, settings, execution, group)
        if done == config.steps:
            _check_weights(model, placeholders)
        if done % max(1, config.steps // CURVE_POINTS) == 0 or done == config.steps:
            curve.append([done, *(term.item() for term in losses)])
            progress(done, config.steps, f"loss {losses.total.item():.3f}")
        if done in probe_at:
            with clock.probing(), non_finite_in(f"probe after step {done}"):
                if group.is_main_process:
                    probes.append([done, *probe_model(model, settings)])
        if due := done < config.steps and (done % config.checkpoint_every == 0 or callback.should_checkpoint(done)):
            save(done)
        with clock.pausing():
            callback.on_step_end(done, losses, optimizer.param_groups[0]["lr"])
        if group.any_process(callback.should_stop(), device) and done < config.steps:
            if not due:
                save(done)
            raise TrainingStopped(done)
    return {
        "seconds": clock.seconds,
        "curve": curve,
        "curve_columns": ["step", *Losses._fields],
        "probe": probes,
        "probe_columns": PROBE_COLUMNS,
        "probe_images": config.probe_images,
        "probe_seconds": clock.probe_seconds,
        "resumed_at": state.step,
        "arithmetic": describe_arithmetic(execution),
    }


def _check_weights(model: nn.Module, placeholders: frozenset[str]) -> None:
    """Raise NonFiniteError if training has made a weight or a statistic non-finite: no later loss would tell."""
    spoilt = non_finite_names(model.state_dict()) - placeholders
    if spoilt:
        raise NonFiniteError(f"weights are not finite after the last step: {one_and_more(spoilt)}")


def attention_seeds(model: nn.Module) -> dict[str, dict[str, int]]:
    """Return the seeds, by name, of modules that are random in evaluation too, as `attention_seeds`; {} for none."""
    seeds = {
        name: module.evaluation_seed for name, module in model.named_modules() if hasattr(module, "evaluation_seed")
    }
    return {"attention_seeds": seeds} if seeds else {}


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    settings: Settings,
    execution: Execution = DEFAULT_EXECUTION,
    group: ProcessGroup = SINGLE,
) -> Losses:
    """Take one optimisation step on this process's part of a batch.

    Args:
        model: As `prepare_model` returned it.
        optimizer: Its optimizer.
        batch: `image` (B, 3, H, W) float32, and the targets `label`, `boundary` and `direction`.
        settings: What is trained.
        execution: Precision and micro-batches.
        group: The processes that train together.

    Returns:
        The losses of the whole batch, over all processes.

    Raises:
        NonFiniteError: In every process, before anything non-finite reaches the weights.
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
    """Run forward and backward passes micro-batch by micro-batch; the parameters then have the whole batch's gradient.

    With one micro-batch in one process this is the loss's own backward pass. With global normalization each micro-batch
    has its share of the batch's losses, and the shares add up; DistributedDataParallel divides their sum by the
    processes. Else each micro-batch has losses of its own, and the batch's are their mean.
    """
    micro_batches, device = execution.accumulation, batch["image"].device
    micro_batch_count = group.size * micro_batches
    shared = execution.loss_normalization == "global" and micro_batch_count > 1
    totals = None
    if shared:
        totals = BatchTotals.from_targets(
            batch["label"], batch["boundary"], all_reduce_sum=group.all_reduce_sum, micro_batches=micro_batches
        )
    scale = float(group.size) if shared else 1 / micro_batches
    chunks = {name: tensor.chunk(micro_batches) for name, tensor in batch.items()}
    part_losses = []
    for index in range(micro_batches):
        micro_batch = {name: parts[index] for name, parts in chunks.items()}
        with no_gradient_sync(model) if index < micro_batches - 1 else nullcontext():
            with autocast_context(execution, device):
                losses = compute_losses(
                    model(_in_memory_format(micro_batch["image"], execution)), micro_batch, settings, totals
                )
            (losses.total if scale == 1 else losses.total * scale).backward()
        part_losses.append(torch.stack(losses).detach())
    total = group.all_reduce_sum(torch.stack(part_losses).sum(0))
    return Losses(*(total if shared or micro_batch_count == 1 else total / micro_batch_count))


def _in_memory_format(image_B3HW: Tensor, execution: Execution) -> Tensor:
    return image_B3HW.contiguous(memory_format=torch.channels_last) if execution.channels_last else image_B3HW


def compute_losses(
    output: Any, batch: dict[str, Tensor], settings: Settings, totals: BatchTotals | None = None
) -> Losses:
    """Return the losses of the model's output.

    Args:
        output: The output of either kind of model, UN-EPT or a published network.
        batch: The targets.
        settings: Give weights and thresholds.
        totals: Counts of the whole batch, where `batch` is a micro-batch.
    """
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
    """Return the batches of one run, a pure function of (seed, step)."""
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
