from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.profiling.memory.tracker import (
    ACTIVATIONS,
    GRADIENTS,
    INPUTS,
    PARAMETERS,
    TEMPORARIES,
    MemoryTracker,
    reallocate_on_cpu,
)

FLOAT = 4  # bytes


def test_every_byte_of_a_step_is_told_by_its_kind() -> None:
    """Two linear layers and a sigmoid between: what autograd keeps, and what is there for a moment."""
    model = nn.Sequential(nn.Linear(8, 32, bias=False), nn.Sigmoid(), nn.Linear(32, 2, bias=False))
    x = torch.randn(16, 8)
    tracker = MemoryTracker()
    tracker.mark(model.parameters(), PARAMETERS)
    tracker.mark([x], INPUTS)
    with tracker:
        tracker.start_peak()
        result = model(x)
        before = tracker.live_bytes()
        large = torch.empty(10000)  # for a moment, and the peak
        del large
        result.sum().backward()
        tracker.mark([parameter.grad for parameter in model.parameters()], GRADIENTS)
    peak = tracker.peak()
    parameters, inputs = FLOAT * (8 * 32 + 32 * 2), FLOAT * 16 * 8
    assert before == parameters + inputs + FLOAT * (16 * 32 + 16 * 2)  # the hidden layer once: sigmoid's own result
    assert peak.kinds[PARAMETERS] == parameters
    assert peak.kinds[INPUTS] == inputs
    assert peak.kinds[ACTIVATIONS] == FLOAT * 16 * 32
    assert peak.kinds[TEMPORARIES] == FLOAT * (16 * 2 + 10000)
    assert sum(peak.kinds.values()) == peak.bytes
    del result
    assert tracker.live_bytes() == 2 * parameters + inputs  # the gradients


def test_views_and_in_place_results_are_not_counted_twice() -> None:
    tracker = MemoryTracker()
    with tracker:
        x = torch.zeros(100)
        held = [x.view(10, 10), x[5:], x.add_(1), x.view(10, 10).transpose(0, 1)]
        assert tracker.live_bytes() == 100 * FLOAT
        del held
        y = x + 1
        del x
        assert tracker.live_bytes() == 100 * FLOAT
        del y
    assert tracker.live_bytes() == 0
    assert tracker.peak().bytes == 200 * FLOAT


class Model(nn.Module):
    """A layer that holds little, then what is given, called `wide`."""

    def __init__(self, wide: nn.Module) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(10, 10), wide

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.wide(self.narrow(x))


def test_the_place_of_the_peak_is_named() -> None:
    class Wide(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.repeat(50).sum()

    tracker = MemoryTracker()
    with tracker:
        tracker.phase = "forward"
        Model(Wide())(torch.zeros(10))
        tracker.phase = "after"
        torch.zeros(10)
    assert tracker.peak().location == "forward: wide"


class Widened(nn.Module):
    """Its backward pass holds the result and as much again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.expand(1000, 10).exp().sum(0)


@pytest.mark.parametrize("where", ["wide", "loss"])
def test_the_place_of_a_peak_in_the_backward_pass_is_named(where: str) -> None:
    tracker = MemoryTracker()
    with tracker:
        tracker.phase = "forward"
        found = Model(Widened() if where == "wide" else nn.Identity())(torch.zeros(10))
        tracker.phase = "loss"
        loss = (found if where == "wide" else Widened().forward(found)).sum()
        tracker.phase = "backward"
        loss.backward()
    assert tracker.peak().location == f"backward: {where}"


def test_fakes_and_real_tensors_give_the_same_ledger() -> None:
    def peak(model: nn.Module) -> object:
        tracker = MemoryTracker()
        tracker.mark(model.parameters(), PARAMETERS)
        with tracker:
            model(torch.zeros(3, 5)).square().mean().backward()
        return tracker.peak()

    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.LayerNorm(7), nn.Linear(7, 2))

    real = peak(make())
    with torch.device("meta"):
        empty = make()
    with FakeTensorMode():
        assert peak(reallocate_on_cpu(empty)) == real


def test_an_unknown_kind_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        MemoryTracker().mark([], "things")
