"""What the processes of the tests do: a few steps of small models in float64, and their results in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import unept
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.config.settings import Settings
from bench.distributed import SINGLE, ProcessGroup
from bench.training import loop
from bench.training.execution import prepare_model
from bench.training.optimizer import make_optimizer
from bench.training.options import Execution

STEPS, BATCH, SIDE = 3, 4, 32
PAPER = {
    "size": SIDE,
    "points": 2,
    "width": 16,
    "ffn": 16,
    "head_width": 16,
    "spatial_widths": (8, 8),
    "dropout": 0.0,
    "batch": BATCH,
}
RELEASED = PAPER | {
    "boundary_head": "two_class",
    "edge_threshold": "logit",
    "ce_average": "all",
    "decoder_self": "pointwise",
}
PLAIN = {"backbone": "tiny_vit", "spatial": False, "queries": "embed"}  # no batch norm
CASES: dict[str, tuple[dict[str, Any], Execution]] = {
    "paper": (PAPER, Execution()),
    "released": (RELEASED, Execution()),
    "released, per device": (RELEASED, Execution(loss_normalization="device")),
    "lite0": (PAPER | {"backbone": "lite0"}, Execution()),
    "encnet": (PAPER | {"architecture": "encnet", "spatial": False, "queries": "embed", "width": 32}, Execution()),
    "accumulated": (PAPER | PLAIN, Execution(accumulation=2)),
    "accumulated, per device": (PAPER | PLAIN, Execution(accumulation=2, loss_normalization="device")),
    "unused parameters": (PAPER | {"encoder_layers": 0}, Execution()),
}


def settings_of(case: str) -> Settings:
    return replace_fields(preset("quick"), CASES[case][0])


def model_of(case: str) -> nn.Module:
    torch.manual_seed(0)
    return unept.build(settings_of(case).model).double().train()


def batch_of(step: int) -> dict[str, Tensor]:
    """Pictures whose halves have very unequal numbers of labelled pixels and of boundaries."""
    draw = torch.Generator().manual_seed(step)

    def truth(limit: int) -> Tensor:
        return torch.randint(limit, (BATCH, SIDE, SIDE), generator=draw)

    batch = {"image": torch.randn(BATCH, 3, SIDE, SIDE, generator=draw, dtype=torch.float64)}
    batch |= {"label": truth(settings_of("paper").model.classes), "boundary": truth(2), "direction": truth(8)}
    for name in ("label", "boundary", "direction"):
        batch[name][0, 4:] = 255
        batch[name][1] = batch[name][1].where(truth(4)[1] == 0, 255)
    batch["boundary"][2:] = batch["boundary"][2:].where(truth(8)[2:] == 0, 0)
    return batch


def steps(case: str, execution: Execution, group: ProcessGroup = SINGLE) -> dict[str, Tensor]:
    """The model's state and every step's losses after STEPS steps."""
    settings, model = settings_of(case), model_of(case)
    optimizer = make_optimizer(model, settings.train)
    called = prepare_model(model, execution, group, size=SIDE)
    losses = []
    for step in range(STEPS):
        part = {name: tensor.chunk(group.size)[group.rank] for name, tensor in batch_of(step).items()}
        losses.append(torch.stack(loop.train_step(called, optimizer, part, settings, execution, group)))
    return {**model.state_dict(), "losses": torch.stack(losses)}


def work(given: tuple[str, tuple[str, ...]], group: ProcessGroup, device: torch.device) -> None:
    """The cases that are named; each process's state goes to a file of its own in the folder."""
    folder, cases = given
    for case in cases:
        torch.save(steps(case, CASES[case][1], group), Path(folder, f"{case} {group.rank}.pt"))
