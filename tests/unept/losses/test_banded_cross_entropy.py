"""The banded cross-entropies against the plain formula over enlarged logits, which these tests hold, and in memory."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import unept
from unept.config import paper_profile, released_profile
from unept.losses import banded_cross_entropy
from unept.losses.banded_cross_entropy import bilinear, summed_cross_entropies
from unept.losses.total_loss import total_loss
from unept.model import Output

SIZES = [(8, 8), (1, 1), (19, 13), (37, 101), (64, 40), (7, 131), (131, 7)]
BANDS = [1, 3000, 1 << 20]  # eight rows of one image; several bands, of more than one image in the smaller sizes; one
MIB = 1 << 20
Inputs = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def always_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """The maps of these tests are small enough to be done in one piece."""
    monkeypatch.setattr(banded_cross_entropy, "WHOLE", 0)


def inputs(
    size: tuple[int, int] = (37, 101), classes: int = 5, batch: int = 3, dtype: torch.dtype = torch.float64
) -> Inputs:
    """Logits, labels of which a fifth and a whole corner are ignored, and sources up to one pixel away, clamped."""
    generator = torch.Generator().manual_seed(size[0] * size[1])
    height, width = size
    grid = -(-height // 8), -(-width // 8)
    logits = torch.randn(batch, classes, *grid, generator=generator, dtype=torch.float64).mul(3).to(dtype)
    label = torch.randint(0, classes, (batch, *size), generator=generator)
    label[torch.rand(batch, *size, generator=generator) < 0.2] = 255
    label[-1, : height // 2, : width // 2] = 255
    dy, dx = torch.randint(-1, 2, (2, batch, *size), generator=generator)
    return logits.requires_grad_(), label, shifted(dy, dx)


def shifted(dy: Tensor, dx: Tensor) -> Tensor:
    height, width = dy.shape[1:]
    row = (torch.arange(height).unsqueeze(1) + dy).clamp(0, height - 1)
    return row * width + (torch.arange(width) + dx).clamp(0, width - 1)


def plain(logits: Tensor, label: Tensor, source: Tensor) -> Tensor:
    """torch's own interpolation and cross-entropy, all pixels and classes at once."""
    height, width = label.shape[1:]
    full = F.interpolate(logits, scale_factor=8, mode="bilinear", align_corners=False)[:, :, :height, :width]
    index = source.flatten(1).unsqueeze(1).expand(-1, logits.shape[1], -1)
    moved = full.flatten(2).gather(2, index).view_as(full)
    return torch.stack([F.cross_entropy(each, label, ignore_index=255, reduction="sum") for each in (full, moved)])


def value_and_gradients(function: Callable[..., Tensor], logits: Tensor, *rest: Tensor) -> list[Tensor]:
    terms = function(logits, *rest)
    return [terms.detach(), *(torch.autograd.grad(term, logits, retain_graph=True)[0] for term in terms)]


def error(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, relative to the largest entry of each tensor."""
    return max(
        float((mine.double() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-300))
        for mine, theirs in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("classes", [1, 5])
def test_equals_the_plain_formula(
    size: tuple[int, int], band: int, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", band)
    logits, *rest = inputs(size, classes)
    expected = value_and_gradients(plain, logits, *rest)
    found = value_and_gradients(summed_cross_entropies, logits, *rest)
    single = value_and_gradients(summed_cross_entropies, logits.detach().float().requires_grad_(), *rest)
    if classes == 1:
        assert all(not each.any() for each in (*found, *single))
        return
    assert error(found, expected) < 1e-12
    assert error(single, expected) < 1e-5
    assert all(each.dtype == torch.float32 for each in single)
    assert torch.equal(summed_cross_entropies(logits, rest[0]), found[0][:1])


def test_equals_the_plain_formula_with_the_papers_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", 3000)
    logits, *rest = inputs((67, 90), classes=150, batch=2)
    expected = value_and_gradients(plain, logits, *rest)
    single = value_and_gradients(summed_cross_entropies, logits.detach().float().requires_grad_(), *rest)
    assert error(single, expected) < 1e-5


@pytest.mark.parametrize("profile", [paper_profile, released_profile])
def test_the_whole_loss_is_the_same_with_and_without_enlarged_logits(profile: Callable[[], Any]) -> None:
    config, loss = profile()
    generator = torch.Generator().manual_seed(0)
    heads = [
        torch.randn(2, channels, 9, 12, generator=generator).requires_grad_()
        for channels in (150, 1 if config.boundary_head == "binary" else 2, 8)
    ]
    label, boundary, direction = (
        torch.randint(0, most, (2, 67, 90), generator=generator) for most in (config.classes, 2, 8)
    )
    found = []
    for bounded in (True, False):
        losses = total_loss(
            Output(*heads, refined=None),
            label,
            boundary,
            direction,
            dataclasses.replace(loss, bounded=bounded),
            edge_threshold=config.edge_threshold,
        )
        found.append([losses.total.detach(), *torch.autograd.grad(losses.total, heads)])
    assert error(found[0], [each.double() for each in found[1]]) < 1e-5


@pytest.mark.parametrize("step", [(-1, -1), (-1, 0), (0, 1), (1, 0), (1, 1)])
def test_all_pixels_moved_one_way_and_clamped_at_the_border(
    step: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", 1)
    logits, label, _ = inputs((43, 21))
    source = shifted(*(torch.full_like(label, each) for each in step))
    expected = value_and_gradients(plain, logits, label, source)
    assert error(value_and_gradients(summed_cross_entropies, logits, label, source), expected) < 1e-12


def no_halo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banded_cross_entropy, "HALO", 0)


def corners_aligned(monkeypatch: pytest.MonkeyPatch) -> None:
    def aligned(source: int, like: Tensor, *, align_corners: bool, stride: int) -> Tensor:
        return bilinear(source, like, align_corners=not align_corners, stride=stride)

    monkeypatch.setattr(banded_cross_entropy, "bilinear", aligned)


def transpose_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink = banded_cross_entropy._upsample_transposed
    monkeypatch.setattr(
        banded_cross_entropy,
        "_upsample_transposed",
        lambda slope, rows, columns: shrink(slope, (rows > 0).to(rows.dtype) / 2, columns),
    )


def a_read_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """What overwriting instead of adding would do where several pixels read one."""
    slope = banded_cross_entropy._slope

    def once(probability: Tensor, read: Any, out: Tensor) -> Tensor:
        counts = read.counts.clone()
        counts[0] = False
        return slope(probability, read._replace(counts=counts), out)

    monkeypatch.setattr(banded_cross_entropy, "_slope", once)


@pytest.mark.parametrize("twin", [no_halo, corners_aligned, transpose_without_weights, a_read_too_few])
def test_known_wrong_twins_fail(twin: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", 1)
    logits, *rest = inputs()
    expected = value_and_gradients(plain, logits, *rest)
    assert error(value_and_gradients(summed_cross_entropies, logits, *rest), expected) < 1e-12
    twin(monkeypatch)
    assert error(value_and_gradients(summed_cross_entropies, logits, *rest), expected) > 1e-3


def test_gradcheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", 1)
    logits, label, source = inputs((18, 9), classes=3, batch=1)
    assert torch.autograd.gradcheck(lambda each: summed_cross_entropies(each, label, source), logits)


def test_a_second_derivative_is_refused() -> None:
    logits, *rest = inputs((8, 8))
    with pytest.raises(NotImplementedError, match="differentiable once"):
        torch.autograd.grad(summed_cross_entropies(logits, *rest).sum(), logits, create_graph=True)


def test_nothing_counts() -> None:
    logits, label, source = inputs((19, 13))
    value, *slopes = value_and_gradients(summed_cross_entropies, logits, torch.full_like(label, 255), source)
    assert not value.any()
    assert not any(each.any() for each in slopes)


def test_an_empty_batch() -> None:
    logits, label, source = (each[:0] for each in inputs((19, 13)))
    assert summed_cross_entropies(logits, label, source).tolist() == [0, 0]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("ignored", [False, True])
def test_a_logit_that_is_not_finite_is_seen_in_every_band(
    bad: float, ignored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", 1)
    logits, label, _ = inputs((37, 21))
    target = torch.full_like(label, 255) if ignored else label
    heads = torch.zeros(3, 1, 5, 3), torch.zeros(3, 8, 5, 3)
    for row in range(5):
        broken = logits.detach().clone()
        broken[1, 2, row, 1] = bad
        losses = total_loss(
            Output(broken, *heads, None), target, target, target, unept.LossConfig(), edge_threshold="probability"
        )
        assert not any(torch.isfinite(each) for each in losses[:3])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    logits, *rest = inputs(dtype=dtype)
    same = logits.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        found = summed_cross_entropies(logits, *rest)
        found.sum().backward()
    expected = summed_cross_entropies(same, *rest)
    expected.sum().backward()
    assert torch.equal(found, expected)
    assert logits.grad is not None
    assert same.grad is not None
    assert torch.equal(logits.grad, same.grad.to(dtype))


@pytest.mark.parametrize("label", [5, 200, 10**6, -1])
@pytest.mark.parametrize("pixel", [(0, 0), (8, 3), (36, 100)])
def test_a_label_outside_the_classes_is_refused(label: int, pixel: tuple[int, int]) -> None:
    logits, labels, source = inputs()
    labels[(1, *pixel)] = label
    with pytest.raises(IndexError, match=f"{label} is out of bounds"):
        summed_cross_entropies(logits, labels, source)


def test_without_a_gradient_the_same_value_and_the_same_bits_again() -> None:
    logits, *rest = inputs(dtype=torch.float32)
    first, second = (value_and_gradients(summed_cross_entropies, logits, *rest) for _ in range(2))
    assert all(map(torch.equal, first, second))
    with torch.no_grad():
        assert torch.equal(summed_cross_entropies(logits, *rest), first[0])
    assert not summed_cross_entropies(logits.detach(), *rest).requires_grad


class LiveBytes(TorchDispatchMode):
    """The largest sum of bytes in storages that operators made while this was active."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {each.untyped_storage() for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)}
        for each in tree_leaves(result):
            if isinstance(each, Tensor) and (storage := each.untyped_storage()) not in {*self.known, *given}:
                self.known.add(storage)
                self.now += storage.nbytes()
                weakref.finalize(storage, self.free, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def free(self, size: int) -> None:
        self.now -= size


def peak_bytes(function: Callable[..., Tensor], side: int, classes: int, batch: int = 2) -> int:
    """Of value and gradient, beyond the arguments."""
    logits = torch.zeros(batch, classes, side // 8, side // 8, requires_grad=True)
    label, source = torch.zeros(2, batch, side, side, dtype=torch.int64)
    with LiveBytes() as live:
        function(logits, label, source).sum().backward()
    return live.peak


def test_the_counter_counts() -> None:
    with LiveBytes() as live:
        kept = torch.zeros(1000)
        view = kept.view(10, 100)
        view += 1
        for _ in range(3):
            torch.ones(500)
    assert (live.peak, live.now) == (6000, 4000)
    del kept
    del view
    assert live.now == 0


def test_memory_is_a_few_bands_and_copies_of_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", 1 << 15)
    classes, batch = 16, 2
    for side in (64, 128, 256):
        band, logits, pixels = 4 << 15, 4 * classes * batch * (side // 8) ** 2, batch * side**2
        assert 8 * side * classes <= 1 << 15, "eight rows of an image would be more"
        assert peak_bytes(summed_cross_entropies, side, classes) < 5 * band + 5 * logits + 5 * pixels
        assert peak_bytes(plain, side, classes) > 3 * 4 * classes * pixels


def test_saves_a_gibibyte_at_150_classes() -> None:
    ours = peak_bytes(summed_cross_entropies, 480, 150)
    with FakeTensorMode():
        theirs = peak_bytes(plain, 480, 150)
    assert ours < 40 * MIB
    assert theirs - ours > 1024 * MIB


@pytest.mark.parametrize("size", SIZES)
def test_in_one_piece_and_in_bands_it_is_the_same(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    logits, label, source = inputs(size)
    banded = value_and_gradients(summed_cross_entropies, logits, label, source)
    monkeypatch.setattr(banded_cross_entropy, "WHOLE", label.numel() * logits.shape[1])
    monkeypatch.setattr(banded_cross_entropy, "_Banded", None)
    whole = value_and_gradients(summed_cross_entropies, logits, label, source)
    for one, other in zip(whole, banded, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert summed_cross_entropies(logits, label).shape == (1,)
    monkeypatch.setattr(banded_cross_entropy, "WHOLE", label.numel() * logits.shape[1] - 1)
    with pytest.raises(AttributeError):  # bands, which are not there
        summed_cross_entropies(logits, label, source)
