"""mmcv's compiled operator, told without a card: a function in its place that takes its arguments, on the CPU."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

from unept.ops import cuda_selftest, mmcv_compiled, reference

CPU = torch.device("cpu")


def stand_in(
    value: Tensor, sizes: Tensor, starts: Tensor, locations: Tensor, weights: Tensor, images_at_once: int
) -> Tensor:
    """What mmcv's function computes, and what it demands."""
    shapes = tuple((int(height), int(width)) for height, width in sizes)
    assert value.shape[0] % images_at_once == 0
    assert starts.tolist() == [sum(h * w for h, w in shapes[:level]) for level in range(len(shapes))]
    assert {tensor.dtype for tensor in (value, locations, weights)} <= {torch.float32, torch.float64}
    return reference.sample(value, shapes, locations, weights)


def put(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Tensor] | None) -> None:
    """An mmcv whose compiled function this is, or one without."""
    modules = {name: ModuleType(name) for name in ("mmcv", "mmcv._ext", "mmcv.ops", "mmcv.ops.multi_scale_deform_attn")}
    for name, module in modules.items():
        module.__spec__ = ModuleSpec(name, None)
        module.__path__ = []  # a package, in which nothing else is found
    if function is None:
        del modules["mmcv._ext"]
        monkeypatch.delitem(sys.modules, "mmcv._ext", raising=False)
    else:
        made = SimpleNamespace(apply=function)
        modules["mmcv.ops.multi_scale_deform_attn"].MultiScaleDeformableAttnFunction = made
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    caches = (mmcv_compiled._load_operator, mmcv_compiled.problem)
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_it_gives_what_the_reference_gives(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    put(monkeypatch, stand_in)
    inputs = cuda_selftest.make_inputs(((4, 5), (3, 2)), 7, 2, 8, 3, dtype, batch=3)
    found = mmcv_compiled.msda(*inputs[:4], inputs.shapes)
    expected = reference.msda(*inputs[:4], inputs.shapes)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=2e-5)
    assert mmcv_compiled._verdict(CPU) == ""


def test_one_that_computes_something_else_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, lambda *given: 1.001 * stand_in(*given))
    assert mmcv_compiled._verdict(CPU) == "mmcv's compiled operator does not give what the reference gives"


def test_one_that_was_not_built_for_the_card_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tensor:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    put(monkeypatch, fails)
    said = mmcv_compiled._verdict(CPU)
    assert said == (
        "mmcv's compiled operator fails on this card: "
        "CUDA error: no kernel image is available for execution on the device"
    )


def test_without_one_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert mmcv_compiled.problem(torch.device("cuda")) == "this mmcv has no compiled operators"
    with pytest.raises(ValueError, match="this mmcv has no compiled operators"):
        mmcv_compiled.msda(*cuda_selftest.make_inputs(((4, 5),), 3, 2, 4, 2)[:4], ((4, 5),))


def test_nothing_is_imported_where_there_is_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmcv_compiled.importlib.util, "find_spec", lambda _: pytest.fail("mmcv was looked for"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert mmcv_compiled.problem(torch.device("cuda")) == "cuda is no CUDA card that this torch can use"
    assert mmcv_compiled.problem(CPU) == "cpu is no CUDA card that this torch can use"
