"""Do the generated scenes ask for context? `python -m experiments.scene_sanity_check`.

Two small conv nets of one architecture are trained on the scenes. Their receptive field is smaller than the distance
between the emblem and the objects whose class it decides. The first sees the picture alone: within a pair of
look-alike classes it can only guess. The second is told the cue in a fourth input plane. The gap between them is what
context can bring; the score of the second is what a network of this size reaches once it has the context.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.config.settings import TrainConfig
from bench.evaluation.metrics import ConfusionMatrix
from unept.config import LossConfig
from unept.data.pipeline import Batches, TrainPipeline
from unept.data.scenes import CLASSES, CUE_CLASSES, SceneConfig, Scenes

DILATIONS = (1, 2, 4, 2)


@dataclass(frozen=True, kw_only=True)
class SceneScore:
    """Scores on the validation scenes, as fractions. `pairs_*` are over the four classes that the cue decides."""

    told: bool
    seed: int
    miou: float
    pairs_iou: float
    pairs_accuracy: float


class LocalNet(nn.Module):
    """Convolutions at half the resolution; a pixel's scores depend on `receptive_field` pixels a side at most."""

    receptive_field = 3 + 2 * 2 * sum(DILATIONS)

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        for dilation in DILATIONS:
            parts += [
                nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*parts, nn.Conv2d(width, 4 * len(CLASSES), 1), nn.PixelShuffle(2))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, classes, H, W) for sides that are even."""
        return self.body(image_BCHW)


def cue_plane(label_BHW: Tensor) -> Tensor:
    """Return the cue as an input plane (B, 1, H, W): 1 or -1; 0 where no object depends on it."""
    first = (label_BHW == CUE_CLASSES[0]) | (label_BHW == CUE_CLASSES[2])
    second = (label_BHW == CUE_CLASSES[1]) | (label_BHW == CUE_CLASSES[3])
    cue_B = second.flatten(1).any(1).float() - first.flatten(1).any(1).float()
    return cue_B[:, None, None, None].expand(-1, 1, *label_BHW.shape[1:])


def train_and_score(scenes: SceneConfig, *, told: bool, seed: int, steps: int) -> SceneScore:
    """Train one net for `steps` batches of 8 and score it."""
    assert LocalNet.receptive_field // 2 < scenes.scene_cue_distance, "the emblem would be seen"
    torch.manual_seed(seed)
    net = LocalNet(4 if told else 3).train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    batches = _batches(Scenes(scenes, "train"), seed, 8, flip=0.5)
    for step in range(steps):
        image, label = _inputs(batches.batch_at(step), told)
        optimizer.zero_grad()
        F.cross_entropy(net(image), label).backward()
        optimizer.step()
        scheduler.step()
    return _score(net.eval(), Scenes(scenes, "val"), told=told, seed=seed)


@torch.inference_mode()
def _score(net: nn.Module, dataset: Scenes, *, told: bool, seed: int) -> SceneScore:
    confusion = ConfusionMatrix(len(CLASSES))
    batches = _batches(dataset, 0, 1, flip=0.0)
    for step in range(len(dataset)):
        image, label = _inputs(batches.batch_at(step), told)
        confusion.add(label[0].numpy(), net(image)[0].argmax(0).numpy())
    scores = confusion.scores()
    pairs = list(CUE_CLASSES)
    return SceneScore(
        told=told,
        seed=seed,
        miou=float(scores.miou or 0),
        pairs_iou=float(np.mean([scores.iou[number] or 0 for number in pairs])),
        pairs_accuracy=float(confusion.counts[pairs, pairs].sum() / confusion.counts[pairs].sum()),
    )


def _batches(dataset: Scenes, seed: int, batch: int, flip: float) -> Batches:
    size = dataset.config.scene_size
    augmentation = TrainConfig(
        scale_min=1, scale_max=1, base_long=size, base_short=size, flip=flip, photometric=False, category_max=1
    )
    pipeline = TrainPipeline(augmentation, LossConfig(), size, classes=len(CLASSES), boundary_truth=False)
    return Batches(dataset, pipeline, batch, seed)


def _inputs(batch: dict[str, Tensor], told: bool) -> tuple[Tensor, Tensor]:
    label = batch["label"]
    return torch.cat([batch["image"], cue_plane(label)], 1) if told else batch["image"], label


def results_table(results: Sequence[SceneScore]) -> str:
    """Return Markdown: mean and range over the seeds, in percent."""
    lines = [
        "| input | seeds | mIoU | IoU, cue-dependent classes | accuracy on their pixels |",
        "|---|---|---|---|---|",
    ]
    for told, name in ((False, "neighbourhood only"), (True, "neighbourhood and cue")):
        rows = [result for result in results if result.told == told]
        cells = [[getattr(r, field) for r in rows] for field in ("miou", "pairs_iou", "pairs_accuracy")]
        shown = [f"{100 * np.mean(c):.1f} ({100 * min(c):.1f} to {100 * max(c):.1f})" for c in cells]
        lines.append(f"| {name} | {len(rows)} | {' | '.join(shown)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train both nets for each seed, print a line of JSON for each run and the table."""
    parser = argparse.ArgumentParser(prog="python -m experiments.scene_sanity_check")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    results = []
    for told in (False, True):
        for seed in range(options.seeds):
            results.append(train_and_score(SceneConfig(), told=told, seed=seed, steps=options.steps))
            print(json.dumps(vars(results[-1])), flush=True)
    print(results_table(results))


if __name__ == "__main__":
    main()
