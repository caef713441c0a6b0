"""What stands between Python's tensors and the CUDA library: checks, error codes, the self-test and its record.

The library is the emulated one, or stands in for it; cards are made up.
"""

from __future__ import annotations

import ctypes
import json
import logging
from pathlib import Path
from types import SimpleNamespace

import emulated
import pytest
import torch

from unept.ops import cuda_build, cuda_library, cuda_ops, cuda_selftest
from unept.ops import validation as arguments
from unept.ops.cuda_build import Unavailable
from unept.ops.cuda_library import Kernel

CPU, SHAPES = torch.device("cpu"), ((3, 4), (2, 2))
ONLY_FLOAT32 = "-DUNEPT_ONLY_FLOAT32"


class Function:
    """In place of a function of the library: notes its arguments, gives a code."""

    def __init__(self, code: object) -> None:
        self.code, self.calls = code, []

    def __call__(self, *arguments):
        self.calls.append(arguments)
        return self.code


def stand_in(code: int = 0, built_from: bytes = b"") -> SimpleNamespace:
    return SimpleNamespace(
        unept_msda_cuda_forward=Function(code),
        unept_msda_cuda_backward=Function(code),
        unept_cuda_message=Function(b"an illegal memory access"),
        unept_cuda_sources=Function(built_from),
    )


@pytest.fixture
def inputs():
    return cuda_selftest.make_inputs(SHAPES, 3, 2, 8, 4)


def kernel_of(library, device=CPU, stream=None) -> Kernel:
    return Kernel(library, device, stream)


def backward(kernel, inputs, **changed):
    result = torch.zeros_like(inputs.gradient_BQC)
    B, H, Q = inputs.value_BSHD.shape[0], inputs.value_BSHD.shape[2], inputs.reference_Q2.shape[0]
    given = {"gradient_BQC": inputs.gradient_BQC, "result_BQC": result}
    given |= {"softmax_BHQ2": result.new_zeros(B, H, Q, 2), **inputs._asdict(), "shapes": inputs.sides, **changed}
    return kernel.backward(**given)


def test_what_the_library_is_given(inputs):
    library = stand_in()
    result, softmax = kernel_of(library, stream=lambda _: 77).forward(*inputs[:4], inputs.sides)
    ((sizes, sides, kind, device, stream, *pointers),) = library.unept_msda_cuda_forward.calls
    names = ("batch", "tokens", "heads", "channels", "levels", "points", "queries")
    assert [getattr(sizes._obj, name) for name in names] == [2, 16, 2, 8, 2, 4, 3]
    assert (list(sides), kind, device, stream) == ([3, 4, 2, 2], 0, 0, 77)
    assert pointers == [tensor.data_ptr() for tensor in (*inputs[:4], result, softmax)]
    assert (result.shape, softmax.shape) == ((2, 3, 16), (2, 2, 3, 2))


@pytest.mark.parametrize("dtype", arguments.VALUE_TYPES)
def test_types_of_results(dtype):
    inputs = cuda_selftest.make_inputs(SHAPES, 3, 2, 8, 4, dtype)
    library = stand_in()
    kernel, wide = kernel_of(library), torch.promote_types(dtype, torch.float32)
    assert {tensor.dtype for tensor in kernel.forward(*inputs[:4], inputs.sides)} == {wide}
    assert [tensor.dtype for tensor in backward(kernel, inputs)] == [dtype, wide, wide]
    *_, by_value, value_sum, _, _ = library.unept_msda_cuda_backward.calls[0]
    assert (by_value == value_sum) is (dtype == wide)
    assert library.unept_msda_cuda_backward.calls[0][2] == arguments.VALUE_TYPES[dtype]


@emulated.needs_compiler
def test_strides_are_taken_care_of(inputs):
    kernel = kernel_of(emulated.library(ONLY_FLOAT32))
    turned = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in inputs[:2]]
    turned += [tensor.transpose(2, 3).contiguous().transpose(2, 3) for tensor in inputs[2:4]]
    assert not any(tensor.is_contiguous() for tensor in turned)
    expected, _ = kernel.forward(*inputs[:4], inputs.sides)
    assert torch.equal(kernel.forward(*turned, inputs.sides)[0], expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value_BSHD": torch.zeros(2, 16, 2, 8, device="meta")}, "value must be on cpu, not on meta"),
        ({"offsets_BQHLP2": torch.zeros(2, 3, 2, 2, 4, 2, device="meta")}, "offsets must be on cpu, not on meta"),
        ({"value_BSHD": torch.zeros(2, 16, 16)}, "value must have 4 axes and logits 5, not 3 and 5"),
        (
            {"value_BSHD": torch.zeros(2, 16, 2, 8, dtype=torch.int32)},
            "value must be float32, .* not torch.int32",
        ),
        ({"value_BSHD": torch.zeros(2, 16, 2, 8).to_sparse()}, "value must be a dense tensor, not torch.sparse_coo"),
        ({"value_BSHD": torch.zeros(2, 15, 2, 8)}, "15 tokens do not fill the levels, which have 16"),
        ({"reference_Q2": torch.zeros(4, 2)}, r"reference must be \(3, 2\), not \(4, 2\)"),
        ({"offsets_BQHLP2": torch.zeros(2, 3, 2, 2, 4)}, r"offsets must be \(2, 3, 2, 2, 4, 2\)"),
        ({"offsets_BQHLP2": torch.zeros(2, 3, 2, 2, 4, 2).bfloat16()}, "offsets must be torch.float32 beside"),
        ({"logits_BQHLP": torch.zeros(2, 3, 2, 2, 4).double()}, "logits must be torch.float32 beside"),
        (
            {"logits_BQHLP": torch.zeros(2, 3, 1, 2, 4)},
            r"logits must be \(2, 3, 2, 2, 4\), not \(2, 3, 1, 2, 4\)",
        ),
        ({"gradient_BQC": torch.zeros(2, 3, 15)}, "the result's gradient must be"),
        ({"result_BQC": torch.zeros(2, 3, 16).half()}, "the result must be torch.float32"),
        ({"softmax_BHQ2": torch.zeros(2, 3, 2, 2)}, "the softmax must be"),
        ({"shapes": [3, 4]}, "shapes must be a height and a width for each of 2 levels"),
        ({"shapes": [-3, -4, 2, 2]}, "shapes must be a height and a width for each of 2 levels"),
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
)
def test_nothing_wrong_reaches_the_library(inputs, change, message):
    library = stand_in()
    with pytest.raises(ValueError, match=message):
        backward(kernel_of(library), inputs, **change)
    if not set(change) & {"gradient_BQC", "result_BQC", "softmax_BHQ2"}:
        given = {name: tensor for name, tensor in inputs._asdict().items() if name != "gradient_BQC"}
        with pytest.raises(ValueError, match=message):
            kernel_of(library).forward(**{**given, "shapes": inputs.sides, **change})
    assert library.unept_msda_cuda_backward.calls == library.unept_msda_cuda_forward.calls == []


@pytest.mark.parametrize("name", ["forward", "backward"])
def test_every_code_is_an_error(inputs, name):
    kernel = kernel_of(stand_in(1700))
    with pytest.raises(RuntimeError, match=rf"\({name}\) ended with error 1700: an illegal memory access"):
        kernel.forward(*inputs[:4], inputs.sides) if name == "forward" else backward(kernel, inputs)


@emulated.needs_compiler
class TestCodesOfTheLibrary:
    def call(self, *, kind=0, device=0, levels=2, shapes=(3, 4, 2, 2), **sizes) -> str:
        library = cuda_library.declared(emulated.library(ONLY_FLOAT32))
        whole = {"batch": 2, "tokens": 16, "heads": 2, "channels": 8, "points": 4, "queries": 3, **sizes}
        room = torch.zeros(4096)
        given = arguments.Sizes(levels=levels, **whole)
        sides = (ctypes.c_int64 * len(shapes))(*shapes)
        code = library.unept_msda_cuda_forward(ctypes.byref(given), sides, kind, device, None, *[room.data_ptr()] * 6)
        return library.unept_cuda_message(code).decode()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({}, "no error"),
            ({"kind": 9}, "unknown type of values"),
            ({"tokens": 17}, "sizes that are negative, too large or do not fit"),
            ({"tokens": 12}, "sizes that are negative, too large or do not fit"),
            ({"batch": -1}, "sizes that are negative, too large or do not fit"),
            ({"queries": 2**31}, "sizes that are negative, too large or do not fit"),
            ({"batch": 2**61}, "sizes that are negative, too large or do not fit"),
            ({"heads": 2**20, "channels": 2**20}, "sizes that are negative, too large or do not fit"),
            ({"shapes": (3, -4, 2, 2)}, "sizes that are negative, too large or do not fit"),
            ({"shapes": (2**40, 2**40, 2, 2)}, "sizes that are negative, too large or do not fit"),
            ({"levels": 65, "shapes": (1, 1) * 65, "tokens": 65}, "more than 64 levels"),
            ({"device": 7}, "an error of the emulator"),
        ],
        ids=str,
    )
    def test_sizes_types_and_cards(self, given, message):
        assert message in self.call(**given)

    def test_a_launch_that_fails(self):
        library = emulated.library(ONLY_FLOAT32)
        library.emulated_fail_after(0, 9)
        assert self.call() == "invalid configuration argument"
        assert self.call() == "no error"

    def test_the_card_of_the_call_and_afterwards_the_one_before(self):
        assert self.call(device=1) == "no error"
        library = emulated.library(ONLY_FLOAT32)
        assert (library.emulated_launch_device(), library.emulated_device()) == (1, 0)

    def test_unknown_codes_have_a_message(self):
        library = cuda_library.declared(emulated.library(ONLY_FLOAT32))
        assert library.unept_cuda_message(77) == b"unknown error code"


def test_deterministic_algorithms(inputs):
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match=r"left to chance, and torch.use_deterministic_algorithms is on"):
            backward(kernel_of(stand_in()), inputs)
        torch.use_deterministic_algorithms(True, warn_only=True)
        with pytest.warns(UserWarning, match="left to chance"):
            backward(kernel_of(stand_in()), inputs)
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_library_of_something_else(tmp_path):
    with pytest.raises(Unavailable, match="not a library of these CUDA kernels"):
        cuda_library.declared(SimpleNamespace())  # type: ignore[arg-type]
    (tmp_path / "broken.so").write_text("not a library", encoding="utf-8")
    with pytest.raises(Unavailable, match="does not load"):
        Kernel.load(tmp_path / "broken.so", CPU)


@emulated.needs_compiler
def test_a_library_of_other_sources(monkeypatch):
    path = Path(emulated.library(ONLY_FLOAT32)._name)
    assert Kernel.load(path, CPU).device == CPU
    monkeypatch.setattr(cuda_build, "source_hash", lambda: "0123")
    with pytest.raises(Unavailable, match="was built from other sources"):
        Kernel.load(path, CPU)


@pytest.fixture
def tested(monkeypatch):
    """The answers of tests to come; how many were asked for is what is left."""
    answers: list[object] = []

    def answer(path, device):
        given = answers.pop(0)
        if isinstance(given, Unavailable):
            raise given
        return given

    monkeypatch.setattr(cuda_selftest, "_tested", answer)
    return answers


def test_a_card_is_tested_once(tmp_path, tested, monkeypatch):
    path = tmp_path / "msda.so"
    tested += ["", "wrong by 3"]
    assert cuda_selftest.verdict(path, CPU) == cuda_selftest.verdict(path, CPU) == ""
    monkeypatch.setattr(cuda_selftest, "card_name", lambda _: "another card")
    written = tmp_path / "msda.checked.json"
    assert cuda_selftest.verdict(path, CPU) == cuda_selftest.verdict(path, CPU) == f"wrong by 3 (written in {written})"
    assert json.loads(written.read_text(encoding="utf-8")) == {"cpu": "", "another card": "wrong by 3"}
    assert tested == []


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"cpu": 3}'])
def test_a_damaged_record_is_made_again(tmp_path, tested, damage):
    tested.append("")
    (tmp_path / "msda.checked.json").write_text(damage, encoding="utf-8")
    assert cuda_selftest.verdict(tmp_path / "msda.so", CPU) == ""
    assert json.loads((tmp_path / "msda.checked.json").read_text(encoding="utf-8")) == {"cpu": ""}


def test_a_test_that_breaks_off_is_no_verdict(tmp_path, tested):
    tested += [Unavailable("their test broke off"), ""]
    with pytest.raises(Unavailable, match="broke off"):
        cuda_selftest.verdict(tmp_path / "msda.so", CPU)
    assert cuda_selftest.verdict(tmp_path / "msda.so", CPU) == ""


@emulated.needs_compiler
def test_the_self_test_in_its_own_process(monkeypatch):
    path = Path(emulated.library()._name)
    assert cuda_selftest.verdict(path, CPU) == ""
    monkeypatch.setattr(cuda_selftest, "_tested", lambda *_: "asked twice")
    assert cuda_selftest.verdict(path, CPU) == ""


@emulated.needs_compiler
def test_a_self_test_that_breaks_off():
    path = Path(emulated.library(ONLY_FLOAT32)._name)  # it has only one of the types
    with pytest.raises(Unavailable, match=r"their test broke off: RuntimeError: .*unknown type of values"):
        cuda_selftest.verdict(path, CPU)


@emulated.needs_compiler
def test_the_self_test_passes_and_fails(monkeypatch):
    kernel = kernel_of(emulated.library(ONLY_FLOAT32))
    monkeypatch.setattr(cuda_selftest, "CASES", cuda_selftest.CASES[:2])
    assert cuda_selftest.self_test(kernel) == ""
    monkeypatch.setattr(kernel, "backward", lambda *given: tuple(torch.zeros_like(given[at]) for at in (1, 3, 4)))
    assert cuda_selftest.self_test(kernel).startswith("the gradient of the value is off by")


@pytest.fixture
def card(monkeypatch, tmp_path):
    """A made-up card, with a library that stands in."""
    library = stand_in(built_from=cuda_build.source_hash().encode())
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(cuda_build, "library_for", lambda _: tmp_path / "msda.so")
    monkeypatch.setattr(cuda_library.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(cuda_selftest, "verdict", lambda *_: "")
    cuda_ops._kernel.cache_clear()
    yield library
    cuda_ops._kernel.cache_clear()


def test_a_card_that_has_the_kernels(card):
    assert cuda_ops.problem(torch.device("cuda", 0)) == cuda_ops.problem(torch.device("cuda")) == ""
    assert cuda_ops.kernel_for(torch.device("cuda")).device == torch.device("cuda", 1)
    assert cuda_ops.kernel_for(torch.device("cuda", 0)) is cuda_ops.kernel_for(torch.device("cuda", 0))


def test_a_card_that_fails_its_test(card, monkeypatch, caplog):
    monkeypatch.setattr(cuda_selftest, "verdict", lambda *_: "the result is off by 3")
    with caplog.at_level(logging.WARNING):
        reasons = {cuda_ops.problem(torch.device("cuda", 0)) for _ in range(3)}
    assert reasons == {"they failed their test on this card: the result is off by 3"}
    assert caplog.messages == [f"no CUDA attention kernels on card 0: {reasons.pop()}"]
    with pytest.raises(Unavailable, match="off by 3"):
        cuda_ops.kernel_for(torch.device("cuda", 0))


def test_a_library_from_the_cache_that_is_not_of_these_sources(card):
    card.unept_cuda_sources.code = b"0123"
    assert "was built from other sources (0123)" in cuda_ops.problem(torch.device("cuda", 0))


@pytest.mark.parametrize("device", ["cpu", "meta", "cuda:0"])
def test_no_card(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_ops.problem(torch.device(device)) == f"{device} is no CUDA card that this torch can use"


def test_a_card_of_another_maker(card, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    assert cuda_ops.problem(torch.device("cuda", 0)) == "cuda:0 is no CUDA card that this torch can use"


def test_the_stream_is_torchs_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=1234 + device.index))
    assert cuda_library.current_stream(torch.device("cuda", 1)) == 1235
    assert cuda_library.current_stream(CPU) == 0


def test_the_operators_go_to_the_card_of_the_value(card, monkeypatch, inputs):
    kernel = kernel_of(card)
    monkeypatch.setattr(cuda_ops, "kernel_for", lambda _: kernel)
    result, softmax = cuda_ops.forward(*inputs[:4], inputs.sides)
    gradients = cuda_ops.backward(inputs.gradient_BQC, *inputs[:4], result, softmax, inputs.sides)
    assert [tensor.shape for tensor in gradients] == [inputs[at].shape for at in (0, 2, 3)]
    assert len(card.unept_msda_cuda_forward.calls) == len(card.unept_msda_cuda_backward.calls) == 1
