"""A checkpoint restores model and optimizer to the bit, and damage costs the progress, never the run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.training import checkpoint


def trained(steps: int, folder: Path | None = None, stop_at: int = -1) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    start = checkpoint.load_checkpoint(folder, model, optimizer).step if folder else 0
    for step in range(start, steps):
        if step == stop_at:
            assert folder is not None
            checkpoint.save_checkpoint(
                folder, model, optimizer, checkpoint.TrainState(step=step, seconds=1.5, curve=[[1, 0.5]])
            )
            return []
        torch.manual_seed(step)
        optimizer.zero_grad()
        model(torch.randn(2, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return [tensor.clone() for tensor in model.state_dict().values()]


def test_continuing_equals_not_stopping(tmp_path: Path) -> None:
    whole = trained(6)
    trained(6, tmp_path, stop_at=4)
    for ours, expected in zip(trained(6, tmp_path), whole, strict=True):
        assert torch.equal(ours, expected)


def test_state_travels(tmp_path: Path) -> None:
    trained(6, tmp_path, stop_at=3)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    state = checkpoint.load_checkpoint(tmp_path, model, torch.optim.AdamW(model.parameters()))
    assert state == checkpoint.TrainState(step=3, seconds=1.5, curve=[[1, 0.5]])


def test_a_layer_that_stands_in_two_places_travels(tmp_path: Path) -> None:
    layer, other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
    model, copy = nn.Sequential(layer, nn.BatchNorm2d(3), layer), nn.Sequential(other, nn.BatchNorm2d(3), other)
    checkpoint.save_checkpoint(tmp_path, model, torch.optim.AdamW(model.parameters()), checkpoint.TrainState(step=1))
    assert checkpoint.load_checkpoint(tmp_path, copy, torch.optim.AdamW(copy.parameters())).step == 1
    assert torch.equal(other.weight, layer.weight)
    assert copy[0].weight is copy[2].weight


def cut(content: bytes) -> bytes:
    return content[:100]


def emptied(_: bytes) -> bytes:
    return b""


def zeroed(_: bytes) -> bytes:
    return bytes(64)


def overwritten(content: bytes) -> bytes:
    return b"junk" + content[4:]


def flipped(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


@pytest.mark.parametrize("damage", [cut, emptied, zeroed, overwritten, flipped])
def test_damaged_file_is_set_aside_and_the_run_starts_over(
    tmp_path: Path, damage: Callable[[bytes], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    trained(6, tmp_path, stop_at=4)
    path = tmp_path / checkpoint.CHECKPOINT_FILE
    path.write_bytes(damage(path.read_bytes()))
    for ours, expected in zip(trained(6, tmp_path), trained(6), strict=True):
        assert torch.equal(ours, expected)
    assert path.with_name(f"{checkpoint.CHECKPOINT_FILE}.damaged").exists()
    assert "damaged" in capsys.readouterr().err


def test_no_checkpoint_is_a_fresh_state(tmp_path: Path) -> None:
    assert (
        checkpoint.load_checkpoint(tmp_path, nn.Linear(1, 1), torch.optim.AdamW(nn.Linear(1, 1).parameters())).step == 0
    )
