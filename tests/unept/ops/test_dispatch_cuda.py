"""When tensors on a card go to the CUDA kernels, told without a card: the question to the card is answered here."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses import FakeTensorMode

from unept import ops
from unept.ops import cpu_ops, cuda_ops, cuda_selftest, dispatch, mmcv_compiled, reference


def answer(monkeypatch: pytest.MonkeyPatch, reason: str) -> list[torch.device]:
    """Let every card answer with `reason`; returns the cards that were asked."""
    asked: list[torch.device] = []

    def problem(device: torch.device) -> str:
        asked.append(device)
        return reason

    monkeypatch.setattr(cuda_ops, "problem", problem)
    return asked


def test_a_card_that_passed_its_test_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, "")
    assert ops.resolve(device="cuda:1") == ("cuda", "built by nvcc, checked on this card")
    assert ops.resolve("cuda", device="cuda").reason.endswith(", asked for")
    assert asked == [torch.device("cuda:1"), torch.device("cuda")]


def test_a_card_that_did_not_gets_the_reference_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "they failed their test on this card: wrong")
    chosen = ops.resolve(device="cuda")
    assert chosen == (
        "reference",
        "plain PyTorch; no cuda kernel: they failed their test on this card: wrong",
    )
    with pytest.raises(ValueError, match="the cuda kernel cannot run: they failed their test on this card: wrong"):
        ops.resolve("cuda", device="cuda")


def test_a_card_that_did_not_gets_mmcvs_operator_where_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, "no nvcc")
    monkeypatch.setattr(mmcv_compiled, "problem", lambda device: "" if device.index == 1 else "mmcv is not installed")
    chosen = ops.resolve(device="cuda:1")
    assert chosen == ("mmcv", "mmcv's compiled operator, checked on this card; no cuda kernel: no nvcc")
    assert ops.resolve("mmcv", device="cuda:1").reason == "mmcv's compiled operator, checked on this card, asked for"
    assert ops.resolve(device="cuda:0").reason == "plain PyTorch; no cuda kernel: no nvcc"
    with pytest.raises(ValueError, match="the mmcv kernel cannot run: mmcv is not installed"):
        ops.resolve("mmcv", device="cuda:0")
    with pytest.raises(ValueError, match="the mmcv kernel cannot run: it works on a CUDA card, not on 'cpu'"):
        ops.resolve("mmcv")


def test_what_is_chosen_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(mmcv_compiled, "msda", lambda *_: called.append("mmcv"))
    monkeypatch.setattr(dispatch, "_name", lambda *_: "mmcv")
    inputs = cuda_selftest.make_inputs(((4, 5),), 3, 2, 4, 2)
    ops.msda(*inputs[:4], inputs.shapes)
    assert called == ["mmcv"]


def test_each_card_answers_for_its_own_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_ops, "problem", lambda device: "" if device.index == 0 else "they failed their test")
    monkeypatch.setattr(cpu_ops, "msda", lambda *_: "kernel")
    monkeypatch.setattr(reference, "msda", lambda *_: "reference")
    shapes = ((4, 5),)
    with FakeTensorMode():
        inputs = [
            [
                tensor.new_empty(tensor.shape, device=f"cuda:{card}")
                for tensor in cuda_selftest.make_inputs(shapes, 3, 2, 4, 2)[:4]
            ]
            for card in (0, 1)
        ]
        chosen = [ops.msda(*given, shapes) for given in inputs]
    assert chosen == ["kernel", "reference"]


def test_no_card_is_asked_for_other_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answer(monkeypatch, "")
    with pytest.raises(ValueError, match="the cuda kernel cannot run: it works on a CUDA card, not on 'cpu'"):
        ops.resolve("cuda")
    ops.resolve()
    assert ops.resolve(device="mps").name == "reference"
    assert asked == []


def test_without_a_card_the_reason_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    assert "no CUDA card that this torch can use" in ops.resolve(device="cuda").reason


@pytest.mark.parametrize("name", ["unept::msda", "unept::msda_backward"])
def test_the_operators_have_kernels_for_both_devices(name: str) -> None:
    for device in ("CPU", "CUDA"):
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, device)
        assert torch._C._dispatch_has_kernel_for_dispatch_key(name, f"Autocast{device}")
