"""Attention mechanisms: their meaning, their initial values, and the names that choose them."""

import math
import os
import sys

import pytest
import torch
from torch import nn

from unept import attention
from unept.attention.deformable import DeformableCross, DeformableSelf
from unept.attention.multihead import BatchSelf, DenseCross, DenseSelf, PointwiseSelf
from unept.config import SLOTS

SETTINGS = {"width": 16, "heads": 2, "levels": 2, "points": 3, "offset_init": "released", "dropout": 0.0, "layer": 0}
SHAPES = ((3, 4), (2, 2))
EVERY = [(slot, name) for slot in SLOTS for name in attention.attention_names(slot)]


def call(slot, module, *, batch=2, shapes=SHAPES):
    tokens = torch.randn(batch, sum(height * width for height, width in shapes), 16)
    if slot == "decoder_cross":
        queries = torch.randn(batch, 15, 16)
        return queries, module(queries, tokens, (3, 5), shapes)
    return tokens, module(tokens, torch.randn(tokens.shape), shapes)


@pytest.mark.parametrize(("slot", "name"), EVERY)
def test_keeps_the_shape_and_has_gradients(slot, name):
    module = attention.make_attention(slot, name, SETTINGS)
    given, out = call(slot, module)
    assert out.shape == given.shape
    parameters = list(module.parameters())
    if parameters:
        out.square().sum().backward()
        assert all(p.grad is not None for p in parameters)
    assert (name == "none") == (not parameters)


@pytest.mark.parametrize("slot", SLOTS)
def test_nothing_is_zero(slot):
    _, out = call(slot, attention.make_attention(slot, "none", SETTINGS))
    assert not out.any()


def test_initial_offsets():
    module = DeformableSelf(width=64, heads=8, levels=3, points=4)
    eight = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    expected = torch.tensor(eight)[:, None, None] * torch.tensor([1.0, 2, 3, 4])[:, None]
    bias = module.sampling_offsets.bias.view(8, 3, 4, 2)
    torch.testing.assert_close(bias, expected.expand(-1, 3, -1, -1))
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()
    assert not module.attention_weights.bias.any()
    for projection in (module.value_proj, module.output_proj):
        assert not projection.bias.any()
        assert projection.weight.abs().max() <= math.sqrt(6 / 128)
        assert projection.weight.std().item() == pytest.approx(math.sqrt(2 / 128), rel=0.05)


def test_directions_of_heads_that_do_not_divide_eight():
    bias = DeformableSelf(width=60, heads=3, levels=1, points=1).sampling_offsets.bias.view(3, 2)
    slope = 1 / math.sqrt(3)
    torch.testing.assert_close(bias, torch.tensor([(1.0, 0.0), (-slope, 1.0), (-slope, -1.0)]))


def test_scaled_offsets_reach_equally_far():
    few = DeformableSelf(width=64, heads=8, levels=1, points=4, offset_init="scaled").sampling_offsets.bias
    many = DeformableSelf(width=64, heads=8, levels=1, points=64, offset_init="scaled").sampling_offsets.bias
    torch.testing.assert_close(few, DeformableSelf(width=64, heads=8, levels=1, points=4).sampling_offsets.bias)
    torch.testing.assert_close(many.view(8, 64, 2)[:, -1], few.view(8, 4, 2)[:, -1])


@pytest.mark.parametrize(
    ("heads", "side", "shares"),
    [(2, 4, (0.38, 0.09, 0.02)), (2, 16, (0.84, 0.47, 0.12)), (8, 60, (0.94, 0.80, 0.38))],
)
def test_share_inside_at_the_start(heads, side, shares):
    tokens = torch.randn(1, side * side, 16)
    for points, share in zip((4, 16, 64), shares, strict=True):
        module = DeformableSelf(width=16, heads=heads, levels=1, points=points)
        assert module.inside_share(tokens, None, ((side, side),)) == pytest.approx(share, abs=0.006)
        cross = DeformableCross(width=16, heads=heads, levels=1, points=points)
        assert cross.inside_share(tokens, tokens, (side, side), ((side, side),)) == pytest.approx(share, abs=0.006)


def test_deformable_samples_where_its_offsets_say():
    """One head, one point, one pixel to the right: with identity projections the map comes back shifted."""
    module = DeformableSelf(width=4, heads=1, levels=1, points=1)
    with torch.no_grad():
        for projection in (module.value_proj, module.output_proj):
            projection.weight.copy_(torch.eye(4))
    tokens = torch.randn(1, 12, 4)
    shifted = torch.cat((tokens.view(3, 4, 4)[:, 1:], torch.zeros(3, 1, 4)), dim=1).view(1, 12, 4)
    torch.testing.assert_close(module(tokens, None, ((3, 4),)), shifted)
    torch.testing.assert_close(module(tokens, torch.randn(1, 12, 4), ((3, 4),)), shifted)


def torch_twin(module):
    twin = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    twin.load_state_dict(module.state_dict())
    return twin


def randomised(kind):
    module = kind(width=16, heads=2, dropout=0.1).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    return module


def test_dense_is_torch_multihead_attention():
    module, tokens, position = randomised(DenseSelf), torch.randn(2, 16, 16), torch.randn(2, 16, 16)
    placed = tokens + position
    expected = torch_twin(module)(placed, placed, tokens)[0]
    torch.testing.assert_close(module(tokens, position, SHAPES), expected, rtol=1e-5, atol=1e-6)
    cross, queries = randomised(DenseCross), torch.randn(2, 15, 16)
    expected = torch_twin(cross)(queries, tokens, tokens)[0]
    torch.testing.assert_close(cross(queries, tokens, (3, 5), SHAPES), expected, rtol=1e-5, atol=1e-6)


def test_multihead_starts_as_torchs():
    module = DenseSelf(width=128, heads=2)
    for weight, rows in ((module.in_proj_weight, 384), (module.out_proj.weight, 128)):
        limit = math.sqrt(6 / (rows + 128))  # Xavier, uniform; the input projection as one matrix
        assert 0.98 * limit < weight.abs().max() <= limit
    assert not module.in_proj_bias.any()
    assert not module.out_proj.bias.any()


@pytest.mark.parametrize("images", [1, 2, 3])
def test_batch_in_training_is_torchs_over_the_first_axis(images):
    """Bit for bit the released call, dropout on the attention weights included."""
    module, tokens = BatchSelf(width=16, heads=2, dropout=0.3).train(), torch.randn(images, 16, 16)
    twin = nn.MultiheadAttention(16, 2, dropout=0.3).train()
    twin.load_state_dict(module.state_dict())
    torch.manual_seed(1)
    out = module(tokens, None, SHAPES)
    torch.manual_seed(1)
    torch.testing.assert_close(out, twin(tokens, tokens, tokens)[0], rtol=1e-5, atol=1e-6)


def test_batch_attends_over_the_images():
    module, tokens = randomised(BatchSelf), torch.randn(3, 16, 16)
    twin = nn.MultiheadAttention(16, 2).eval()
    twin.load_state_dict(module.state_dict())
    out = module(tokens, None, SHAPES)
    torch.testing.assert_close(out, twin(tokens, tokens, tokens)[0], rtol=1e-5, atol=1e-6)
    assert (out[:2] - module(tokens[:2], None, SHAPES)).abs().max() > 1e-2


def test_pointwise_is_batch_with_one_image():
    module, tokens = randomised(PointwiseSelf), torch.randn(3, 16, 16)
    batch = BatchSelf(width=16, heads=2).eval()
    batch.load_state_dict(module.state_dict())
    alone = torch.cat([batch(image[None], None, SHAPES) for image in tokens])
    torch.testing.assert_close(module(tokens, None, SHAPES), alone, rtol=1e-5, atol=1e-6)


def test_dropout_acts_on_the_weights_in_training_only():
    module, tokens = randomised(DenseSelf), torch.randn(2, 16, 16)
    torch.testing.assert_close(module(tokens, None, SHAPES), module(tokens, None, SHAPES))
    module.train()
    assert (module(tokens, None, SHAPES) - module(tokens, None, SHAPES)).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("slot", "name", "message"),
    [
        (
            "encoder_self",
            "deformible",
            r"nearest: deformable.*deformable, sparse_transformer, .*, none, or module:Class",
        ),
        ("decoder_cross", "batch", "decoder_cross cannot be 'batch'.*one of deformable, dense, none"),
        ("encoder_cross", "dense", "unknown slot 'encoder_cross'"),
        ("encoder_self", "no.such.module:Thing", "importing no.such.module failed: ModuleNotFoundError"),
        ("encoder_self", "torch.nn:NoSuchThing", "torch.nn has no torch.nn.Module class NoSuchThing"),
        ("encoder_self", "math:pi", "math has no torch.nn.Module class pi"),
        ("encoder_self", "a b:C", "takes a dotted module name and a class name"),
        ("encoder_self", ":C", "takes a dotted module name and a class name"),
        ("encoder_self", "torch.nn:Conv2d", "its constructor needs in_channels, out_channels, kernel_size"),
    ],
)
def test_names_that_cannot_be(slot, name, message):
    with pytest.raises(ValueError, match=message) as caught:
        attention.check_slot(slot, name)
    assert "\n" not in str(caught.value)


OWN = """
import torch
class Mine(torch.nn.Module):
    def __init__(self, width, points=2):
        super().__init__()
        self.points = points
        self.linear = torch.nn.Linear(width, width)
    def forward(self, tokens, position, shapes):
        return self.linear(tokens)
class Other:
    pass
class Greedy(torch.nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.settings = settings
class Picky(Greedy):
    def __init__(self, **settings):
        super().__init__(None, **settings)
"""


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in ("mine_for_a_test", "broken_for_a_test"):
        sys.modules.pop(name, None)


def test_own_module_from_the_working_directory(workplace):
    (workplace / "mine_for_a_test.py").write_text(OWN)
    before = list(sys.path)
    attention.check_slot("encoder_self", "mine_for_a_test:Mine")
    module = attention.make_attention("encoder_self", "mine_for_a_test:Mine", SETTINGS)
    assert sys.path == before
    assert module.points == 3
    assert call("encoder_self", module)[1].shape == (2, 16, 16)
    assert attention.make_attention("encoder_self", "mine_for_a_test:Greedy", SETTINGS).settings == SETTINGS
    with pytest.raises(ValueError, match="mine_for_a_test:Picky cannot be made: "):
        attention.make_attention("encoder_self", "mine_for_a_test:Picky", SETTINGS)
    with pytest.raises(ValueError, match=r"no torch.nn.Module class Other"):
        attention.check_slot("encoder_self", "mine_for_a_test:Other")


@pytest.mark.parametrize("moved", ["import", "constructor", "forward"])
def test_own_module_that_moves_leaves_the_working_directory(workplace, moved):
    lines = {name: "os.chdir('/')" if name == moved else "pass" for name in ("import", "constructor", "forward")}
    (workplace / "mine_for_a_test.py").write_text(
        f"import os, torch\n{lines['import']}\n"
        "class Mine(torch.nn.Module):\n"
        f"    def __init__(self):\n        super().__init__()\n        {lines['constructor']}\n"
        f"    def forward(self, tokens, position, shapes):\n        {lines['forward']}\n        return tokens\n"
    )
    module = attention.make_attention("encoder_self", "mine_for_a_test:Mine", SETTINGS)
    call("encoder_self", module)
    assert os.getcwd() == str(workplace)


@pytest.mark.parametrize(
    "lines", ["import sys\nsys.exit(3)\n", "import os\nif not os.fork():\n    1 / 0\nraise SystemExit(3)\n"]
)
def test_own_module_that_ends_the_program_is_an_error(workplace, lines):
    (workplace / "broken_for_a_test.py").write_text(lines)
    with pytest.raises(ValueError, match=r"importing broken_for_a_test failed: it ended the program \(SystemExit: 3\)"):
        attention.check_slot("encoder_self", "broken_for_a_test:Mine")


def test_own_module_that_does_not_import(workplace):
    (workplace / "broken_for_a_test.py").write_text("import not_there_at_all\n")
    with pytest.raises(ValueError, match=r"importing broken_for_a_test failed: .*not_there_at_all"):
        attention.check_slot("encoder_self", "broken_for_a_test:Mine")


def test_own_modules_do_not_shadow_ours(workplace, monkeypatch):
    monkeypatch.delitem(sys.modules, "fractions", raising=False)  # so that it is looked for
    (workplace / "fractions.py").write_text(OWN)
    (workplace / "unept.py").write_text(OWN)
    for module in ("fractions", "unept"):
        with pytest.raises(ValueError, match=f"{module} has no torch.nn.Module class Mine"):
            attention.check_slot("encoder_self", f"{module}:Mine")
