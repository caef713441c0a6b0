"""The loss of Eq. 7 against plain float64 loops over pixels, in both profiles, and in every degenerate case."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import unept
from unept.boundary import OFFSETS
from unept.config import LossConfig, released_profile
from unept.layers.boundary_refinement import refine
from unept.losses.total_loss import BatchTotals, Losses, balanced_ce, total_loss
from unept.model import Output

PAPER = LossConfig()
RELEASED = released_profile()[1]
TERMS = ("ce", "refined", "boundary", "direction")
Threshold = Literal["probability", "logit"]
Targets = tuple[Tensor, Tensor, Tensor]


def output(
    channels: int = 1,
    classes: int = 4,
    grid: tuple[int, int] = (3, 2),
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Output:
    generator = torch.Generator().manual_seed(seed)
    maps = (
        torch.randn(2, each, *grid, generator=generator, dtype=dtype).mul(2).requires_grad_()
        for each in (classes, channels, 8)
    )
    return Output(*maps, None)


def random_targets(size: tuple[int, int] = (24, 16), classes: int = 4, ignored: float = 0.2, seed: int = 1) -> Targets:
    """Label, boundary and direction, with 255 where the label is ignored and in some more of the direction."""
    generator = torch.Generator().manual_seed(seed)
    label, edge, way = (torch.randint(0, n, (2, *size), generator=generator) for n in (classes, 2, 8))
    gone = torch.rand(2, *size, generator=generator) < ignored
    label[gone] = edge[gone] = way[gone] = 255
    way[torch.rand(2, *size, generator=generator) < ignored / 2] = 255
    return label, edge, way


def bilinear(plane: np.ndarray, size: tuple[int, int], corners: bool) -> np.ndarray:
    """One plane enlarged eight times and cut to a size, pixel by pixel."""
    high, wide = plane.shape
    result = np.empty(size)
    for y, x in itertools.product(*map(range, size)):
        if corners:
            row, column = y * (high - 1) / (8 * high - 1), x * (wide - 1) / (8 * wide - 1)
        else:
            row, column = max((y + 0.5) / 8 - 0.5, 0), max((x + 0.5) / 8 - 0.5, 0)
        y0, x0 = int(row), int(column)
        y1, x1 = min(y0 + 1, high - 1), min(x0 + 1, wide - 1)
        top = plane[y0, x0] * (1 - column + x0) + plane[y0, x1] * (column - x0)
        low = plane[y1, x0] * (1 - column + x0) + plane[y1, x1] * (column - x0)
        result[y, x] = top * (1 - row + y0) + low * (row - y0)
    return result


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def balanced(pairs: list[tuple[np.ndarray, int]], classes: int) -> float:
    """Weighted cross-entropy of (logits, class) pairs, each class weighted by 1 - its share."""
    if len({target for _, target in pairs}) < 2:
        return 0.0
    share = np.bincount([target for _, target in pairs], minlength=classes) / len(pairs)
    weights = [1 - share[target] for _, target in pairs]
    losses = [-math.log(softmax(logits)[target]) for logits, target in pairs]
    return float(np.dot(weights, losses) / sum(weights))


def naive(out: Output, maps: Targets, config: LossConfig, threshold: Threshold) -> dict[str, float]:
    """The four terms, pixel by pixel in float64, from the text of the specification."""
    label, edge, way = (each.numpy() for each in maps)
    size = label.shape[1:]
    assert out.boundary is not None
    assert out.direction is not None
    segmentation, heads, directions = (
        np.array([[bilinear(plane, size, corners) for plane in image] for image in each.detach().double().numpy()])
        for each, corners in ((out.logits, False), (out.boundary, True), (out.direction, True))
    )
    ce = refined = 0.0
    binary: list[float] = []
    two: list[tuple[np.ndarray, int]] = []
    way_pairs: list[tuple[np.ndarray, int]] = []
    for b, y, x in itertools.product(*map(range, label.shape)):
        head, turn = heads[b, :, y, x], directions[b, :, y, x]
        probability = softmax(head)[1] if len(head) == 2 else 1 / (1 + math.exp(-head[0]))
        moves = (head[-1] if threshold == "logit" else probability) > 0.5
        dy, dx = OFFSETS[int(turn.argmax())] if moves else (0, 0)
        source = min(max(y + dy, 0), size[0] - 1), min(max(x + dx, 0), size[1] - 1)
        if label[b, y, x] != 255:
            ce -= math.log(softmax(segmentation[b, :, y, x])[label[b, y, x]])
            refined -= math.log(softmax(segmentation[b, :, source[0], source[1]])[label[b, y, x]])
        if edge[b, y, x] != 255:
            binary.append(-math.log(probability if edge[b, y, x] else 1 - probability))
            two.append((head, int(edge[b, y, x])))
        inside = {"predicted": probability > 0.5, "truth": edge[b, y, x] == 1}
        inside["both"] = inside["predicted"] and inside["truth"]
        if inside[config.direction_area] and way[b, y, x] != 255:
            way_pairs.append((turn, int(way[b, y, x])))
    count = label.size if config.ce_average == "all" else (label != 255).sum()
    return {
        "ce": ce / count,
        "refined": refined / count,
        "boundary": float(np.mean(binary)) if heads.shape[1] == 1 else balanced(two, 2),
        "direction": balanced(way_pairs, 8),
    }


CASES = {
    "paper": (PAPER, 1, "probability"),
    "released": (RELEASED, 2, "logit"),
    "mixed": (dataclasses.replace(PAPER, direction_area="truth", ce_average="all"), 2, "probability"),
    "other": (dataclasses.replace(RELEASED, direction_area="both", ce_average="valid"), 1, "logit"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(24, 16), (19, 13)])
def test_terms_equal_loops_over_pixels(case: str, size: tuple[int, int]) -> None:
    config, channels, threshold = CASES[case]
    out, maps = output(channels), random_targets(size)
    losses = total_loss(out, *maps, config, edge_threshold=threshold)
    expected = naive(out, maps, config, threshold)
    for term in TERMS:
        assert float(getattr(losses, term).detach()) == pytest.approx(expected[term], rel=1e-10), term
    total = sum(getattr(config, f"weight_{term}") * expected[term] for term in TERMS)
    assert float(losses.total.detach()) == pytest.approx(total, rel=1e-10)
    single = total_loss(output(channels, dtype=torch.float32), *maps, config, edge_threshold=threshold)
    assert single.total.dtype == torch.float32


def test_the_cases_tell_the_switches_apart() -> None:
    """Each switch changes a term, so an implementation that ignored it would fail above."""
    out, maps = output(2), random_targets()
    base = total_loss(out, *maps, PAPER, edge_threshold="probability")
    for change, term in (({"ce_average": "all"}, "ce"), ({"direction_area": "truth"}, "direction")):
        other = total_loss(out, *maps, dataclasses.replace(PAPER, **change), edge_threshold="probability")
        assert abs(float((getattr(other, term) - getattr(base, term)).detach())) > 1e-3
    other = total_loss(out, *maps, PAPER, edge_threshold="logit")
    assert abs(float((other.refined - base.refined).detach())) > 1e-4


def test_the_profiles_weights() -> None:
    assert [getattr(PAPER, f"weight_{term}") for term in TERMS] == [1.0, 1.5, 3.0, 0.7]
    assert [getattr(RELEASED, f"weight_{term}") for term in TERMS] == [0.8, 1.0, 5.0, 0.6]


@pytest.mark.parametrize("threshold", ["probability", "logit"])
def test_value_and_gradient_equal_those_of_the_plain_formula(threshold: Threshold) -> None:
    """Against torch's own interpolation and cross-entropy on the refined map of K channels."""
    ours, plain, maps = output(2), output(2), random_targets()
    total_loss(ours, *maps, RELEASED, edge_threshold=threshold).total.backward()
    assert plain.boundary is not None
    assert plain.direction is not None
    full = F.interpolate(plain.logits, scale_factor=8, mode="bilinear", align_corners=False)
    heads = [
        F.interpolate(each, size=(24, 16), mode="bilinear", align_corners=True)
        for each in (plain.boundary, plain.direction)
    ]
    label, edge, way = maps
    refined = refine(full, plain.boundary, plain.direction, threshold)
    inside = heads[0].softmax(1)[:, 1] > 0.5
    total = (
        0.8 * F.cross_entropy(full, label, ignore_index=255, reduction="none").mean()
        + F.cross_entropy(refined, label, ignore_index=255, reduction="none").mean()
        + 5 * balanced_ce(heads[0], edge)
        + 0.6 * balanced_ce(heads[1], way.where(inside, 255))
    )
    total.backward()
    for mine, theirs in zip(ours[:3], plain[:3], strict=True):
        assert mine is not None
        assert theirs is not None
        torch.testing.assert_close(mine.grad, theirs.grad, atol=1e-12, rtol=1e-9)


def test_gradcheck() -> None:
    maps = random_targets((8, 8))

    def total(logits: Tensor, boundary: Tensor, direction: Tensor) -> Tensor:
        return total_loss(Output(logits, boundary, direction, None), *maps, PAPER, edge_threshold="probability").total

    assert torch.autograd.gradcheck(total, output(1, grid=(1, 1), seed=3)[:3])


def test_the_refined_term_trains_the_segmentation_only() -> None:
    out = output(2)
    total_loss(out, *random_targets(), RELEASED, edge_threshold="logit").refined.backward()
    assert out.logits.grad is not None
    assert float(out.logits.grad.abs().sum()) > 0
    for head in (out.boundary, out.direction):
        assert head is not None
        assert head.grad is None


def test_balanced_two_classes_are_the_mean_of_both_means() -> None:
    """Each class weighted by the other's share: half of one class's mean and half of the other's."""
    logits, target = torch.randn(1, 2, 5, 40, dtype=torch.float64), torch.zeros(1, 5, 40, dtype=torch.int64)
    target[..., :3] = 1
    target[0, 4] = 255
    losses = F.cross_entropy(logits, target, ignore_index=255, reduction="none")
    expected = (losses[target == 0].mean() + losses[target == 1].mean()) / 2
    torch.testing.assert_close(balanced_ce(logits, target), expected)
    assert abs(float(F.cross_entropy(logits, target, ignore_index=255) - expected)) > 1e-3


def test_without_the_spatial_branch() -> None:
    full, maps = output(), random_targets()
    out = Output(full.logits, None, None, None)
    losses = total_loss(out, *maps, dataclasses.replace(PAPER, weight_ce=0.5), edge_threshold="probability")
    with_heads = total_loss(full, *maps, PAPER, edge_threshold="probability")
    assert float(losses.ce.detach()) == float(with_heads.ce.detach())
    assert float(losses.total.detach()) == 0.5 * float(losses.ce.detach())
    assert [float(each) for each in losses[2:]] == [0, 0, 0]
    losses.total.backward()


def degenerate() -> dict[str, Targets]:
    label, edge, way = random_targets()
    full = torch.full_like(label, 255)
    return {
        "all ignored": (full, full, full),
        "no boundary": (label, torch.where(edge == 255, 255, 0), way),
        "only boundary": (label, torch.where(edge == 255, 255, 1), way),
        "no direction": (label, edge, full),
        "one direction": (label, edge, torch.full_like(way, 3)),
        "one class": (torch.zeros_like(label), torch.zeros_like(edge), full),
        "one pixel": tuple(torch.where(torch.arange(label.numel()).view_as(label) == 77, 1, 255) for _ in range(3)),  # type: ignore[dict-item]
    }


@pytest.mark.parametrize("case", degenerate())
@pytest.mark.parametrize(("config", "channels"), [(PAPER, 1), (RELEASED, 2), (RELEASED, 1), (PAPER, 2)])
@pytest.mark.parametrize("heads", ["random", "never an edge", "always an edge"])
def test_no_target_gives_nan(case: str, config: LossConfig, channels: int, heads: str) -> None:
    for area, threshold in itertools.product(("predicted", "truth", "both"), ("probability", "logit")):
        out = output(channels)
        if heads != "random":
            with torch.no_grad():
                assert out.boundary is not None
                out.boundary.zero_()
                out.boundary[:, -1] = 60.0 if heads == "always an edge" else -60.0
        changed = dataclasses.replace(config, direction_area=area)
        losses = total_loss(out, *degenerate()[case], changed, edge_threshold=threshold)
        assert all(torch.isfinite(each) for each in losses)
        losses.total.backward()
        for each in out[:3]:
            assert each is not None
            assert each.grad is None or torch.isfinite(each.grad).all()


def test_degenerate_terms_are_zero() -> None:
    cases = degenerate()
    for case, terms in {
        "all ignored": TERMS,
        "no boundary": ("boundary",),
        "only boundary": ("boundary",),
        "no direction": ("direction",),
        "one direction": ("direction",),
    }.items():
        losses = total_loss(output(2), *cases[case], RELEASED, edge_threshold="logit")
        for term in terms:
            assert float(getattr(losses, term).detach()) == 0, (case, term)
    plain = F.cross_entropy(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64), torch.tensor([0.0, 1.0]))
    assert torch.isnan(plain), "what the guard is for"


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e20])
def test_large_logits(scale: float) -> None:
    for config, channels in ((PAPER, 1), (RELEASED, 2)):
        out = Output(*(None if each is None else (each * scale).float() for each in output(channels)))
        losses = total_loss(out, *random_targets(), config, edge_threshold="logit")
        assert all(torch.isfinite(each) for each in losses)


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("case", ["random", "all ignored"])
def test_a_logit_that_is_not_finite_gives_a_loss_that_is_not(which: int, bad: float, case: str) -> None:
    out = output(2)
    broken = out[which]
    assert broken is not None
    with torch.no_grad():
        broken[1, 0, 2, 1] = bad
    maps = random_targets() if case == "random" else degenerate()["all ignored"]
    losses = total_loss(out, *maps, RELEASED, edge_threshold="logit")
    assert not torch.isfinite(losses.total)
    affected = {0: ("ce", "refined"), 1: ("boundary",), 2: ("direction",)}[which]
    assert not any(torch.isfinite(getattr(losses, term)) for term in affected)
    if which == 0:
        bare = total_loss(Output(out.logits, None, None, None), *maps, RELEASED, edge_threshold="logit")
        assert not torch.isfinite(bare.total)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    half, maps = output(2, dtype=torch.float32), random_targets()
    out = Output(*(None if each is None else each.detach().to(dtype) for each in half))
    same = Output(*(None if each is None else each.float() for each in out))
    expected = total_loss(same, *maps, RELEASED, edge_threshold="logit")
    with torch.autocast("cpu", torch.bfloat16):
        losses = total_loss(out, *maps, RELEASED, edge_threshold="logit")
    assert losses.total.dtype == torch.float32
    torch.testing.assert_close(losses.total, expected.total, rtol=1e-6, atol=0)


def test_a_label_outside_the_classes_is_refused() -> None:
    label, edge, way = random_targets()
    label[0, 0, 0] = 200
    with pytest.raises(IndexError, match="200 is out of bounds"):
        total_loss(output(), label, edge, way, PAPER, edge_threshold="probability")


def test_logits_of_another_size_are_refused() -> None:
    with pytest.raises(AssertionError, match="1/8"):
        total_loss(output(grid=(4, 2)), *random_targets(), PAPER, edge_threshold="probability")


def test_same_inputs_same_bits() -> None:
    runs = []
    for _ in range(2):
        out = output(1, dtype=torch.float32)
        losses: Losses = total_loss(out, *random_targets(), PAPER, edge_threshold="probability")
        losses.total.backward()
        runs.append([losses.total.detach(), *(each.grad for each in out[:3] if each is not None)])
    for first, second in zip(*runs, strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize(("channels", "config"), [("binary", PAPER), ("two_class", RELEASED)])
def test_the_boundary_terms_train_the_spatial_branch(
    channels: Literal["binary", "two_class"], config: LossConfig
) -> None:
    settings = unept.ModelConfig(
        backbone="tiny_conv", classes=4, size=32, width=32, heads=2, ffn=32, points=4, boundary_head=channels
    )
    torch.manual_seed(0)
    model = unept.build(settings)
    for term in ("boundary", "direction"):
        model.zero_grad()
        losses = total_loss(
            model(torch.randn(2, 3, 32, 32)), *random_targets((32, 32)), config, edge_threshold="probability"
        )
        getattr(losses, term).backward()
        assert model.spatial_branch is not None
        for parameter in model.spatial_branch.parameters():
            assert parameter.grad is not None
        assert float(model.spatial_branch.convblock1.conv1.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]
        assert all(parameter.grad is None for parameter in model.backbone.parameters())


@pytest.mark.parametrize(("channels", "config"), [("binary", PAPER), ("two_class", RELEASED)])
def test_every_parameter_of_a_real_model_is_trained(
    channels: Literal["binary", "two_class"], config: LossConfig
) -> None:
    """The heads and the spatial branch too, which only their own terms or the queries reach."""
    settings = unept.ModelConfig(
        backbone="tiny_conv",
        classes=4,
        size=32,
        width=32,
        heads=2,
        ffn=32,
        points=4,
        head_width=16,
        boundary_head=channels,
    )
    torch.manual_seed(0)
    model = unept.build(settings)
    maps = random_targets((32, 32))
    losses = total_loss(model(torch.randn(2, 3, 32, 32)), *maps, config, edge_threshold="probability")
    losses.total.backward()
    for name, parameter in model.named_parameters():
        if name.startswith(("mask_head", "dir_head", "cls", "spatial_branch")):
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().sum()) > 0, name


class Exchange:
    """What parts that are computed together tell each other, each in turn: a first round notes all counts."""

    def __init__(self, parts: int) -> None:
        self.noted: list[list[Tensor]] = [[] for _ in range(parts)]
        self.complete = False

    def of(self, part: int) -> Callable[[Tensor], Tensor]:
        asked = itertools.count()

        def all_reduce_sum(counts: Tensor) -> Tensor:
            turn = next(asked)
            if self.complete:
                return torch.stack([noted[turn] for noted in self.noted]).sum(0)
            self.noted[part].append(counts)
            return counts

        return all_reduce_sum


@pytest.mark.parametrize("config", [PAPER, RELEASED], ids=["paper", "released"])
@pytest.mark.parametrize("area", ["predicted", "truth"])
def test_the_shares_of_parts_computed_together_add_up_to_the_batch(config, area):
    """As processes compute them: they know each other's counts, of what the model found too."""
    config = dataclasses.replace(config, direction_area=area)
    out, maps = output(1 if config.boundary_ignore == "masked" else 2), random_targets()
    want = total_loss(out, *maps, config, edge_threshold="probability")
    exchange = Exchange(2)
    for _ in range(2):
        shares = []
        for index, half in enumerate((slice(0, 1), slice(1, None))):
            own = Output(*(part if part is None else part[half] for part in out))
            targets = [each[half] for each in maps]
            totals = BatchTotals.from_targets(*targets[:2], all_reduce_sum=exchange.of(index))
            shares.append(torch.stack(total_loss(own, *targets, config, edge_threshold="probability", totals=totals)))
        exchange.complete = True
    torch.testing.assert_close(sum(shares), torch.stack(want), rtol=0, atol=1e-12)
    assert [len(noted) for noted in exchange.noted] == [2, 2]
