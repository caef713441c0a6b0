"""The native kernel against an independent float64 truth, over shapes, types, threads and wrong arguments."""

from __future__ import annotations

import re
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msda_cases import CASES, NAMES, OperatorCase, assert_golden, complaints, derived, make_inputs, strange, truth

from unept import ops
from unept.ops import cpu_build, cpu_ops, reference

pytestmark = pytest.mark.skipif(bool(cpu_build.problem()), reason=f"no native kernel: {cpu_build.problem()}")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_errs_no_more_than_twice_the_reference(case, dtype):
    assert complaints(case, dtype) == []


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.builds(
        OperatorCase,
        shapes=st.lists(st.tuples(st.sampled_from((1, 2, 3, 7, 11)), st.integers(1, 13)), min_size=1, max_size=4).map(
            tuple
        ),
        batch=st.integers(0, 3),
        queries=st.integers(1, 40),
        heads=st.integers(1, 5),
        channels=st.sampled_from((1, 3, 8, 20, 32, 33, 64)),
        points=st.integers(1, 19),
        spread=st.sampled_from((0.5, 4.0, 40.0)),
        seed=st.integers(0, 99),
    ),
    st.sampled_from((torch.float32, torch.float64)),
)
def test_any_shape(case, dtype):
    assert complaints(case, dtype) == []


def test_a_case_has_a_table_whose_corners_are_prefetched():
    text = (cpu_build.sources() / "block.h").read_text(encoding="utf-8")
    cached = 1 << int(re.findall(r"kCachedTableBytes = 1 << (\d+);", text)[0])
    bytes_of = [sum((h + 4) * (w + 2) + 2 for h, w in case.shapes) * case.channels * 4 for case in CASES]
    assert max(bytes_of) > cached


def test_the_truth_is_the_reference_in_double_precision():
    tensors = make_inputs(CASES[0])
    for ours, theirs in zip(*(derived(run, tensors, CASES[0].shapes) for run in (truth, reference.msda)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_golden():
    def run(value, place, offsets, logits, gradient, shapes):
        return derived(cpu_ops.msda, [value, place, offsets, logits, gradient], shapes)

    assert_golden(run)


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"queries": 0}, {"batch": 0, "queries": 0}])
def test_nothing_to_do(sizes):
    case = OperatorCase(((3, 4), (2, 2)))._replace(**sizes)
    for ours, theirs in zip(
        *(derived(run, make_inputs(case), case.shapes) for run in (cpu_ops.msda, reference.msda)), strict=True
    ):
        assert torch.equal(ours, theirs)


def test_strange_points():
    assert strange() == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_logits_show_in_their_query_alone(bad):
    case = OperatorCase(((4, 5), (3, 2)))
    tensors = make_inputs(case, torch.float32)
    clean = cpu_ops.msda(*tensors[:4], case.shapes).unflatten(-1, (2, 4))
    tensors[3][0, 2, 1, 0, 1] = bad
    out = cpu_ops.msda(*tensors[:4], case.shapes).unflatten(-1, (2, 4))
    assert out[0, 2, 1].isnan().all()
    out[0, 2, 1] = clean[0, 2, 1]
    assert torch.equal(out, clean)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_bad_logits_show_in_the_gradients_of_their_query_alone(backend, bad):
    case = OperatorCase(((4, 5), (3, 2)))
    tensors = make_inputs(case, torch.float32)
    run = partial(ops.msda, backend=backend)
    _, *clean = derived(run, tensors, case.shapes)
    tensors[3][0, 2, 1, 0, 1] = bad
    _, by_value, by_offsets, by_logits = derived(run, tensors, case.shapes)
    assert by_value[0, :, 1].isnan().any()
    assert torch.equal(by_value[:, :, 0], clean[0][:, :, 0])  # of the other head
    for found, before in zip((by_offsets, by_logits), clean[1:], strict=True):
        assert found[0, 2, 1].isnan().all()
        found[0, 2, 1] = before[0, 2, 1]
        assert torch.equal(found, before)


def test_a_bad_pixel_shows_only_where_it_is_sampled():
    """Corners outside the map must not read some pixel of it with weight 0: 0 times NaN is NaN."""
    value, place = torch.ones(1, 9, 1, 2), torch.full((1, 2), 1 / 6)
    value[0, 0] = float("nan")
    offsets, logits = torch.full((1, 1, 1, 1, 1, 2), 40.0), torch.zeros(1, 1, 1, 1, 1)
    assert torch.equal(cpu_ops.msda(value, place, offsets, logits, ((3, 3),)), torch.zeros(1, 1, 2))
    assert cpu_ops.msda(value, place, offsets * 0, logits, ((3, 3),)).isnan().all()


@pytest.mark.parametrize("case", [CASES[2]._replace(queries=90), OperatorCase(((9, 7), (5, 3)), 2, 300, 5, 33, 7)])
def test_same_bits_for_any_number_of_threads(case):
    tensors = make_inputs(case, torch.float32)
    assert case.batch * case.queries * case.heads * case.points * len(case.shapes) > 2**14  # else one thread is used
    before, runs = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 1, 2):
            torch.set_num_threads(threads)
            runs.append(derived(cpu_ops.msda, tensors, case.shapes))
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(one, other) for one, other in zip(run, runs[0], strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_values_are_only_stored(dtype):
    case = OperatorCase(((9, 7), (5, 3)), 2, 20, 2, 20, 4)
    wide = make_inputs(case, torch.float32)
    value, gradient = wide[0].to(dtype), wide[4].to(dtype)
    value.view(-1)[:4] = torch.tensor(
        [6e-8, -6e4, 1e-5, 0.0], dtype=dtype
    )  # with numbers too small for a half's exponent
    rest = wide[1:4]
    expected = derived(cpu_ops.msda, [value.float(), *rest, gradient.float()], case.shapes)
    found = derived(cpu_ops.msda, [value, *rest, gradient], case.shapes)
    assert [tensor.dtype for tensor in found] == [dtype, dtype, torch.float32, torch.float32]
    for name, one, other in zip(NAMES, found, expected, strict=True):
        assert torch.equal(one, other.to(one.dtype)), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_half_goes_there_and_back(dtype):
    """One pixel, one point in its middle: the result is the value itself, and so is its gradient."""
    bits = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(dtype)
    value = bits[bits.isfinite()].view(1, 1, 1, -1)
    half, zero = torch.full((1, 2), 0.5), torch.zeros(1, 1, 1, 1, 1)
    leaf = value.clone().requires_grad_()
    out = cpu_ops.msda(leaf, half, zero[..., None].expand(-1, -1, -1, -1, -1, 2), zero, ((1, 1),))
    assert torch.equal(out.flatten(), value.flatten())
    (by_value,) = torch.autograd.grad(out, leaf, value.view(1, 1, -1))
    assert torch.equal(by_value.flatten(), value.flatten())


def test_the_reference_point_has_its_gradient():
    case = OperatorCase(((4, 5), (3, 2)))
    tensors = make_inputs(case)[:4]
    gradients = []
    for run in (cpu_ops.msda, reference.msda):
        place = tensors[1].clone().requires_grad_()
        out = run(tensors[0], place, *tensors[2:], case.shapes)
        gradients += torch.autograd.grad(out.square().sum(), place)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_places_beyond_what_32_bits_can_tell():
    """More than 2^31 values, of which only the last image's are not 0."""
    shapes, batch = ((64, 64),), 2049
    rows = 4096 * 8 * 33
    value = torch.zeros(batch, 4096, 8, 33, dtype=torch.bfloat16)
    assert (batch - 1) * rows > 2**31
    _, place, offsets, logits, gradient = make_inputs(OperatorCase(shapes, 1, 2, 8, 33, 1), torch.float32)
    value[-1].normal_(generator=torch.Generator().manual_seed(0))
    leaves = [value.requires_grad_(), *(each.repeat(batch, *[1] * (each.dim() - 1)) for each in (offsets, logits))]
    out = cpu_ops.msda(leaves[0], place, *leaves[1:], shapes)
    (by_value,) = torch.autograd.grad(out, value, gradient.to(out.dtype).repeat(batch, 1, 1))
    last = value[-1:].detach().clone().requires_grad_()
    alone = cpu_ops.msda(last, place, offsets, logits, shapes)
    (by_last,) = torch.autograd.grad(alone, last, gradient.to(alone.dtype))
    assert out[-1:].any()
    assert torch.equal(out[-1:], alone)
    assert not out[:-1].any()
    assert by_last.any()
    assert torch.equal(by_value[-1:], by_last)
    assert torch.equal(by_value[:1], by_last)  # it does not depend on the values


def test_strided_tensors():
    case = CASES[0]
    tensors = make_inputs(case, torch.float32)
    strided = [tensor.transpose(0, 1).contiguous().transpose(0, 1) for tensor in tensors]
    assert not strided[2].is_contiguous()
    for one, other in zip(*(derived(cpu_ops.msda, some, case.shapes) for some in (tensors, strided)), strict=True):
        assert torch.equal(one, other)


WRONG = {
    r"offsets must be \(2, 5, 2, 2, 3, 2\), not": lambda t: t.__setitem__(2, t[2][:1]),
    r"reference must be \(5, 2\), not \(4, 2\)": lambda t: t.__setitem__(1, t[1][:4]),
    r"reference must be \(5, 2\), not \(1, 2\)": lambda t: t.__setitem__(1, t[1][:1]),  # would broadcast
    "16 tokens do not fill the levels, which have 13": lambda t: t.__setitem__(4, ((3, 3), (2, 2))),
    r"shapes must be .* of 2 levels, not \(4, 4\)": lambda t: t.__setitem__(4, ((4, 4),)),
    r"shapes must be .* of 2 levels, not \(-3, -4, 2, 2\)": lambda t: t.__setitem__(4, ((-3, -4), (2, 2))),
    "value must have 4 axes": lambda t: t.__setitem__(0, t[0][0]),
    "value must be float32, float64, bfloat16 or float16, not torch.int32": lambda t: t.__setitem__(0, t[0].int()),
    "offsets must be of floating-point numbers, not torch.int64": lambda t: t.__setitem__(2, t[2].long()),
    "there must be heads, channels": lambda t: t.__setitem__(0, t[0][..., :0]),
    r"logits must be \(2, 5, 2, 2, 3\), not": lambda t: t.__setitem__(3, t[3][:1]),
    "reference must be on cpu, not on meta": lambda t: t.__setitem__(1, t[1].to("meta")),
    "offsets must be on cpu, not on meta": lambda t: t.__setitem__(2, t[2].to("meta")),
    "logits must be on cpu, not on meta": lambda t: t.__setitem__(3, t[3].to("meta")),
    "reference must be on meta, not on cpu": lambda t: t.__setitem__(0, t[0].to("meta")),
    "offsets must be a dense tensor": lambda t: t.__setitem__(2, t[2].to_sparse()),
}


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_refused_by_every_backend(message, backend):
    arguments = [*make_inputs(CASES[0], torch.float32)[:4], CASES[0].shapes]
    ops.msda(*arguments, backend=backend)
    WRONG[message](arguments)
    with pytest.raises(ValueError, match=message):
        ops.msda(*arguments, backend=backend)


def test_wrong_types_are_refused_below_the_conversion():
    arguments = [*make_inputs(CASES[0], torch.float32)[:4], CASES[0].shapes]
    with pytest.raises(ValueError, match="do not mix"):
        cpu_ops.msda(*arguments[:3], arguments[3].double(), CASES[0].shapes)
    with pytest.raises(ValueError, match=r"offsets must be torch\.float32 beside"):  # a pointer would be misread
        torch.ops.unept.msda(arguments[0], arguments[1], arguments[2].half(), arguments[3], [3, 4, 2, 2])


def test_other_devices_are_refused():
    arguments = make_inputs(CASES[0], torch.float32)[:4]
    with pytest.raises(ValueError, match="value must be on cpu, not on meta"):
        cpu_ops.forward(*(tensor.to("meta") for tensor in arguments), [3, 4, 2, 2])
    with pytest.raises(ValueError, match="works on the CPU, not on 'cuda'"):
        ops.resolve("native", device="cuda")


def test_dispatch(monkeypatch):
    arguments = [*make_inputs(CASES[0], torch.float32)[:4], CASES[0].shapes]
    called = []
    monkeypatch.setattr(cpu_ops, "msda", lambda *_: called.append("native"))
    monkeypatch.setattr(reference, "msda", lambda *_: called.append("reference"))
    ops.msda(*arguments)
    ops.msda(*arguments, backend="reference")
    mixed = [arguments[0], arguments[1], arguments[2].double(), *arguments[3:]]
    ops.msda(*mixed)  # the kernel would compute in another type
    ops.msda(*mixed, backend="native")
    monkeypatch.setenv("UNEPT_BACKEND", "reference")
    ops.msda(*arguments)
    ops.msda(*arguments, backend="native")
    assert called == ["native", "reference", "reference", "native", "reference", "native"]
    assert ops.resolve().reason == "plain PyTorch, asked for by UNEPT_BACKEND"
    monkeypatch.setenv("UNEPT_BACKEND", "nativ")
    with pytest.raises(ValueError, match="unknown backend 'nativ'"):
        ops.msda(*arguments)
