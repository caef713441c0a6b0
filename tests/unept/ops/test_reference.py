"""The sampling operator against golden values, against itself, and against wrong twins that must fail."""

import pytest
import torch
from locations import GOLDEN
from safetensors.torch import load_file
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from unept import ops
from unept.ops import reference

GOLDEN_FILE = GOLDEN / "attn_op.safetensors"


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN_FILE)


def shapes_of(golden):
    return tuple((int(height), int(width)) for height, width in golden["shapes"])


def path(name):
    """One of the two implementations, called as `reference.sample`."""
    total = {"grid": reference.sum_by_grid, "matrix": reference.sum_by_matrix}[name]

    def sample(value, shapes, locations, weights):
        sizes = locations.new_tensor([(width, height) for height, width in shapes])[:, None]
        return total(value, shapes, locations * sizes - 0.5, weights)

    return sample


def agrees(golden, sample):
    inputs = [golden[name].clone().requires_grad_() for name in ("value", "loc", "attn")]
    out = sample(inputs[0], shapes_of(golden), inputs[1], inputs[2])
    gradients = torch.autograd.grad((out * golden["w"]).sum(), inputs)
    pairs = [(out, golden["out"])]
    pairs += [(ours, golden[f"grad_{name}"]) for ours, name in zip(gradients, ("value", "loc", "attn"), strict=True)]
    return all((ours - theirs).abs().max() <= 1e-10 for ours, theirs in pairs)


def wrong_corners(value, shapes, locations, weights):
    sizes = locations.new_tensor([(width, height) for height, width in shapes])[:, None]
    return reference.sample(value, shapes, (locations * (sizes - 1) + 0.5) / sizes, weights)


def wrong_order(value, shapes, locations, weights):
    return reference.sample(value, shapes, locations.flip(-1), weights)


def wrong_border(value, shapes, locations, weights):
    sizes = locations.new_tensor([(width, height) for height, width in shapes])[:, None]
    inside = (locations * sizes - 0.5).clamp(min=torch.zeros_like(sizes), max=sizes - 1)
    return reference.sample(value, shapes, (inside + 0.5) / sizes, weights)


def wrong_levels(value, shapes, locations, weights):
    return reference.sample(value, shapes, locations.flip(3), weights)


@pytest.mark.parametrize("sample", [reference.sample, path("grid"), path("matrix")], ids=["chosen", "grid", "matrix"])
def test_golden(golden, sample):
    assert agrees(golden, sample)


@pytest.mark.parametrize("sample", [wrong_corners, wrong_order, wrong_border, wrong_levels])
def test_golden_refuses_wrong_twins(golden, sample):
    assert not agrees(golden, sample)


def make_inputs(shapes, *, batch=2, queries=5, heads=2, width=4, points=3, dtype=torch.float64, spread=1.5):
    """Inputs of `msda`; no sample within 1e-3 px of a pixel line, where the derivative jumps."""
    generator = torch.Generator().manual_seed(3)
    tokens = sum(height * width for height, width in shapes)
    value = torch.randn(batch, tokens, heads, width, generator=generator, dtype=dtype)
    place = torch.rand(queries, 2, generator=generator, dtype=dtype)
    sizes = torch.tensor([(width, height) for height, width in shapes], dtype=dtype)[:, None]
    offsets = spread * torch.randn(batch, queries, heads, len(shapes), points, 2, generator=generator, dtype=dtype)
    pixels = place[:, None, None, None] * sizes - 0.5 + offsets
    near = (pixels - pixels.round()).abs() < 1e-3
    logits = torch.randn(batch, queries, heads, len(shapes), points, generator=generator, dtype=dtype)
    return value, place, offsets + near * 4e-3, logits


@pytest.mark.parametrize("shapes", [((3, 4), (2, 2)), ((4, 5),)], ids=["matrix", "grid"])
def test_gradients(shapes):
    value, place, offsets, logits = make_inputs(shapes, batch=1, queries=3)
    inputs = [tensor.requires_grad_() for tensor in (value, offsets, logits)]

    def run(v, o, w):
        return ops.msda(v, place, o, w, shapes, backend="reference")

    assert torch.autograd.gradcheck(run, inputs, eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("shapes", [((1, 1),), ((1, 7), (5, 1)), ((3, 4), (2, 2), (8, 8))])
@pytest.mark.parametrize("spread", [0.5, 30.0])
def test_both_ways_agree(shapes, spread):
    value, place, offsets, logits = make_inputs(shapes, spread=spread)
    sizes = torch.tensor([(width, height) for height, width in shapes])[:, None]
    locations = (place[:, None, None, None] + offsets / sizes).requires_grad_()
    weights = logits.flatten(3).softmax(-1).view_as(logits)
    results = []
    for name in ("grid", "matrix"):
        out = path(name)(value, shapes, locations, weights)
        results.append((out, *torch.autograd.grad(out.sin().sum(), locations)))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_matrix_where_it_is_the_smaller(monkeypatch):
    called = []
    for name in ("grid", "matrix"):
        total = getattr(reference, f"sum_by_{name}")

        def spy(*arguments, name=name, total=total):
            called.append(name)
            return total(*arguments)

        monkeypatch.setattr(reference, f"sum_by_{name}", spy)
    for side in (3, 4):  # 3 points of 4 channels: 12 numbers a query and head
        ops.msda(*make_inputs(((side, side),)), ((side, side),), backend="reference")
    assert called == ["matrix", "grid"]


def test_on_the_meta_device_the_operator_is_one_and_carries_its_cost():
    value, place, offsets, logits = (tensor.to("meta") for tensor in make_inputs(((3, 3),)))
    with Names() as seen:
        out = ops.msda(value, place, offsets, logits, ((3, 3),), backend="reference")
    assert out.shape == (*offsets.shape[:2], value.shape[2] * value.shape[3])
    assert "unept::msda" in seen.names
    assert not any("grid_sampler" in name for name in seen.names)
    (B, _, H, D), (_, Q, _, L, P) = value.shape, logits.shape
    assert ops.MACS["unept::msda"](value, place, offsets, logits, [3, 3]) == B * Q * H * L * P * D * 5


class Names(TorchDispatchMode):
    """The operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_msda_is_softmax_over_levels_and_points_of_offset_samples():
    shapes = ((3, 4), (2, 2))
    value, place, offsets, logits = make_inputs(shapes)
    locations = place[None, :, None, None, None] + offsets / torch.tensor([[[4, 3]], [[2, 2]]])
    weights = torch.stack([logits[:, :, :, level] for level in (0, 1)], 3).flatten(3).softmax(-1).view_as(logits)
    expected = reference.sample(value, shapes, locations, weights)
    torch.testing.assert_close(ops.msda(value, place, offsets, logits, shapes), expected)
    per_level = reference.sample(value, shapes, locations, logits.softmax(-1))
    assert (per_level - expected).abs().max() > 1e-2


def test_constant_maps_give_the_constant_inside():
    shapes = ((6, 6),)
    value = torch.full((1, 36, 1, 2), 3.0)
    place = torch.tensor([[0.5, 0.5]])
    offsets, logits = torch.rand(1, 1, 1, 1, 4, 2) * 4 - 2, torch.randn(1, 1, 1, 1, 4)
    torch.testing.assert_close(ops.msda(value, place, offsets, logits, shapes), torch.full((1, 1, 2), 3.0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30, -1e6])
@pytest.mark.parametrize("shapes", [((3, 4), (2, 2)), ((9, 11), (5, 6))], ids=["matrix", "grid"])
def test_lost_points_contribute_nothing(shapes, bad):
    value, place, offsets, logits = make_inputs(shapes, dtype=torch.float32)
    without = logits.flatten(3).softmax(-1).view_as(logits).clone()
    without[:, 2, 1, 0, 1] = 0
    locations = place[None, :, None, None, None] + offsets / torch.tensor([(w, h) for h, w in shapes])[:, None]
    expected = reference.sample(value, shapes, locations, without)
    offsets = offsets.clone()
    offsets[:, 2, 1, 0, 1, 0] = bad
    inputs = [tensor.requires_grad_() for tensor in (value, offsets, logits)]
    out = ops.msda(value, place, offsets, logits, shapes)
    torch.testing.assert_close(out, expected)
    for gradient in torch.autograd.grad(out.sum(), inputs):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("shapes", [((3, 4), (2, 2)), ((9, 11), (5, 6))], ids=["matrix", "grid"])
def test_bad_logits_show(shapes, bad):
    value, place, offsets, logits = make_inputs(shapes)
    logits[0, 2, 1, 0, 1] = bad
    out = ops.msda(value, place, offsets, logits, shapes).unflatten(-1, (2, 4))
    assert out[0, 2, 1].isnan().all()
    assert out[1].isfinite().all()
    assert out[0, [0, 1, 3, 4]].isfinite().all()


@pytest.mark.parametrize("shapes", [((3, 4), (2, 2)), ((9, 11), (5, 6))], ids=["matrix", "grid"])
def test_a_logit_of_minus_infinity_is_a_weight_of_nothing(shapes):
    value, place, offsets, logits = make_inputs(shapes)
    logits[0, 2, 1, 0, 1] = -float("inf")
    expected = ops.msda(value, place, offsets, logits.clamp(min=-1e3), shapes)
    torch.testing.assert_close(ops.msda(value, place, offsets, logits, shapes), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shapes", [((3, 4), (2, 2)), ((9, 11), (5, 6))], ids=["matrix", "grid"])
def test_half_types_are_computed_in_single_precision(shapes, dtype):
    """Places too: in bfloat16 a fraction of a map of 60 pixels is known to a quarter of a pixel only."""
    value, place, offsets, logits = make_inputs(shapes, dtype=torch.float32)
    halves = [tensor.to(dtype) for tensor in (value, offsets, logits)]
    expected = ops.msda(halves[0].float(), place, halves[1].float(), halves[2].float(), shapes)
    out = ops.msda(halves[0], place, *halves[1:], shapes)
    assert out.dtype == dtype
    assert torch.equal(out, expected.to(dtype))
    expected = ops.msda(value, place, *(half.float() for half in halves[1:]), shapes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ops.msda(value, place, *halves[1:], shapes), expected)


def test_same_bits_twice():
    shapes = ((8, 8),) * 3
    value, place, offsets, logits = make_inputs(shapes, queries=64, width=32, points=16, dtype=torch.float32)
    inputs = [tensor.requires_grad_() for tensor in (value, offsets, logits)]
    runs = []
    for _ in range(2):
        out = ops.msda(value, place, offsets, logits, shapes)
        runs.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))


def test_against_grid_sample_of_each_channel():
    """A second opinion that shares no code: one grid_sample a point."""
    shapes, (value, place, offsets, logits) = ((4, 5),), make_inputs(((4, 5),))
    weights = logits.flatten(3).softmax(-1)
    expected = torch.zeros(2, 5, 8, dtype=torch.float64)
    for head in range(2):
        maps = value[:, :, head].transpose(1, 2).reshape(2, 4, 4, 5)
        for point in range(3):
            grid = 2 * (place + offsets[:, :, head, 0, point] / torch.tensor([5, 4])) - 1
            sampled = F.grid_sample(maps, grid[:, :, None], align_corners=False)[..., 0].transpose(1, 2)
            expected[..., 4 * head : 4 * head + 4] += weights[:, :, head, point, None] * sampled
    torch.testing.assert_close(ops.msda(value, place, offsets, logits, shapes), expected)


def test_sizes_are_checked():
    value, place, offsets, logits = make_inputs(((3, 4),))
    with pytest.raises(ValueError, match="12 tokens do not fill the levels, which have 15"):
        ops.msda(value, place, offsets, logits, ((3, 5),), backend="reference")


def test_backends():
    assert ops.resolve("reference") == ("reference", "plain PyTorch, asked for")
    with pytest.raises(ValueError, match="unknown backend 'cudda'; there are auto, reference, native"):
        ops.resolve("cudda")
