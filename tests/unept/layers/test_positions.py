"""Position encodings against golden values."""

import pytest
import torch
from locations import GOLDEN
from safetensors.torch import load_file
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from unept.layers import positions

GOLDEN_FILE = GOLDEN / "pos.safetensors"


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN_FILE)


def test_sine(golden):
    like = torch.zeros(())
    expected = golden["sine_5x7_256"][0].flatten(1).T
    torch.testing.assert_close(positions.sine_encoding(5, 7, 256, like=like), expected, rtol=0, atol=2e-6)
    expected = golden["sine_60x60_256_every_97"][0].T
    torch.testing.assert_close(positions.sine_encoding(60, 60, 256, like=like)[::97], expected, rtol=0, atol=2e-6)
    assert (
        positions.sine_encoding(7, 5, 256, like=like) - golden["sine_5x7_256"][0].transpose(1, 2).flatten(1).T
    ).abs().max() > 0.1


@pytest.mark.parametrize(("name", "side", "step"), [("dst_480", 30, 1), ("dst_768_every_7", 48, 7)])
def test_resized_position_embedding(golden, name, side, step):
    stored = golden["src_384"][0]
    resized = torch.cat((stored[:2], positions.resize_embedding(stored[2:], (24, 24), (side, side), "bicubic")))[::step]
    torch.testing.assert_close(resized, golden[name][0], rtol=0, atol=1e-6)
    linear = torch.cat((stored[:2], positions.resize_embedding(stored[2:], (24, 24), (side, side), "bilinear")))[::step]
    assert (linear - golden[name][0]).abs().max() > 1e-3


def test_centres():
    expected = torch.tensor([(0.25, 0.5), (0.75, 0.5), (0.5, 0.25), (0.5, 0.75)])
    torch.testing.assert_close(positions.pixel_centres(((1, 2), (2, 1)), like=torch.zeros(())), expected)


def test_centres_are_exact_for_half_types():
    exact = positions.pixel_centres(((60, 60),), like=torch.zeros(()))
    assert torch.equal(positions.pixel_centres(((60, 60),), like=torch.zeros((), dtype=torch.bfloat16)), exact)
    assert positions.pixel_centres(((60, 60),), like=torch.zeros((), dtype=torch.float64)).dtype == torch.float64


MADE = {
    "sine": (lambda like: positions.sine_encoding(5, 7, 8, like=like), lambda: positions._sine(5, 7, 8)),
    "centres": (
        lambda like: positions.pixel_centres(((5, 7), (2, 3)), like=like),
        lambda: positions._centres((5, 7), (2, 3)),
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_kept_is_what_is_made(name):
    asked, made = MADE[name]
    for dtype in (torch.float32, torch.float64, torch.float32):
        like = torch.zeros((), dtype=dtype)
        assert torch.equal(asked(like), made().to(dtype))
        assert asked(like) is asked(like)


@pytest.mark.parametrize("name", MADE)
def test_an_evaluation_may_ask_before_a_training(name):
    positions._kept.cache_clear()
    with torch.inference_mode():
        MADE[name][0](torch.zeros(()))
    weight = torch.ones((), requires_grad=True)
    (weight * MADE[name][0](torch.zeros(()))).sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("name", MADE)
def test_tracers_see_it_made_and_leave_nothing_behind(name):
    asked, made = MADE[name]
    positions._kept.cache_clear()
    with FakeTensorMode():
        assert isinstance(asked(torch.zeros(())), FakeTensor)
    assert torch.equal(asked(torch.zeros(())), made().float())
    with FakeTensorMode():
        assert isinstance(asked(torch.zeros(())), FakeTensor)
    whole = torch.compile(lambda like: asked(like) + like, fullgraph=True, backend="eager")
    torch.testing.assert_close(whole(torch.zeros(())), asked(torch.zeros(())))


def test_resize_keeps_its_own_grid_and_a_constant():
    embedding = torch.randn(12, 3)
    assert positions.resize_embedding(embedding, (3, 4), (3, 4)) is embedding
    torch.testing.assert_close(positions.resize_embedding(torch.ones(12, 3), (3, 4), (5, 2)), torch.ones(10, 3))
    tall = positions.resize_embedding(torch.arange(4.0)[:, None], (4, 1), (4, 2))
    assert tall[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
