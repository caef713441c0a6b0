"""Position encodings against golden values."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from unept import positions

GOLDEN = Path(__file__).parents[1] / "golden" / "pos.safetensors"


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN)


def test_sine(golden):
    like = torch.zeros(())
    expected = golden["sine_5x7_256"][0].flatten(1).T
    torch.testing.assert_close(positions.sine(5, 7, 256, like=like), expected, rtol=0, atol=2e-6)
    expected = golden["sine_60x60_256_every_97"][0].T
    torch.testing.assert_close(positions.sine(60, 60, 256, like=like)[::97], expected, rtol=0, atol=2e-6)
    assert (
        positions.sine(7, 5, 256, like=like) - golden["sine_5x7_256"][0].transpose(1, 2).flatten(1).T
    ).abs().max() > 0.1


@pytest.mark.parametrize(("name", "side", "step"), [("dst_480", 30, 1), ("dst_768_every_7", 48, 7)])
def test_resized_position_embedding(golden, name, side, step):
    stored = golden["src_384"][0]
    resized = torch.cat((stored[:2], positions.resize(stored[2:], (24, 24), (side, side), "bicubic")))[::step]
    torch.testing.assert_close(resized, golden[name][0], rtol=0, atol=1e-6)
    linear = torch.cat((stored[:2], positions.resize(stored[2:], (24, 24), (side, side), "bilinear")))[::step]
    assert (linear - golden[name][0]).abs().max() > 1e-3


def test_centres():
    expected = torch.tensor([(0.25, 0.5), (0.75, 0.5), (0.5, 0.25), (0.5, 0.75)])
    torch.testing.assert_close(positions.centres(((1, 2), (2, 1)), like=torch.zeros(())), expected)


def test_centres_are_exact_for_half_types():
    exact = positions.centres(((60, 60),), like=torch.zeros(()))
    assert torch.equal(positions.centres(((60, 60),), like=torch.zeros((), dtype=torch.bfloat16)), exact)
    assert positions.centres(((60, 60),), like=torch.zeros((), dtype=torch.float64)).dtype == torch.float64


def test_resize_keeps_its_own_grid_and_a_constant():
    embedding = torch.randn(12, 3)
    assert positions.resize(embedding, (3, 4), (3, 4)) is embedding
    torch.testing.assert_close(positions.resize(torch.ones(12, 3), (3, 4), (5, 2)), torch.ones(10, 3))
    tall = positions.resize(torch.arange(4.0)[:, None], (4, 1), (4, 2))
    assert tall[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
