"""The CUDA kernels, run by the emulator, against the reference in double precision; see emulator/cuda_runtime.h.

Not covered: speed, registers, the order of atomic additions on a card, caches.
"""

from __future__ import annotations

import emulated
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msda_cases import assert_golden

from unept.ops import cuda_selftest, reference
from unept.ops.cuda_library import Kernel

pytestmark = emulated.needs_compiler

NEWEST = ("-D__CUDA_ARCH__=900", "-DUNEPT_ONLY_FLOAT32")  # with additions of four floats at once
FEW_BLOCKS = ("-DUNEPT_MOST_BLOCKS=2", "-DUNEPT_MOST_REPEATS=2", "-DUNEPT_ONLY_FLOAT32")
PYRAMID = ((6, 9), (3, 5), (2, 2))


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return emulated.kernel()


@pytest.mark.parametrize("case", cuda_selftest.CASES, ids=str)
def test_the_cases_of_the_self_test(kernel, case):
    assert cuda_selftest.disagreement(kernel, cuda_selftest.make_inputs(*case)) == ""


def test_golden(kernel):
    assert_golden(lambda *arguments: cuda_selftest.outcome(kernel, cuda_selftest.Inputs(*arguments)))


side = st.integers(1, 9)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    shapes=st.lists(st.tuples(side, side), min_size=1, max_size=4).map(tuple),
    queries=st.integers(1, 9),
    heads=st.integers(1, 3),
    channels=st.integers(1, 70),
    points=st.integers(1, 9),
    dtype=st.sampled_from((torch.float32, torch.float64, torch.bfloat16)),
    seed=st.integers(0, 99),
)
def test_any_shape(kernel, shapes, queries, heads, channels, points, dtype, seed):
    inputs = cuda_selftest.make_inputs(shapes, queries, heads, channels, points, dtype, batch=1, seed=seed)
    assert cuda_selftest.disagreement(kernel, inputs) == ""


@pytest.mark.parametrize("points", [1, 4, 16])
@pytest.mark.parametrize("shapes", [PYRAMID[:levels] for levels in (1, 2, 3)], ids=["L1", "L2", "L3"])
@pytest.mark.parametrize("queries", [1, 5])
def test_points_levels_and_warps_that_are_not_full(kernel, shapes, points, queries):
    assert cuda_selftest.disagreement(kernel, cuda_selftest.make_inputs(shapes, queries, 3, 32, points)) == ""


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7, 8, 9, 12, 20, 24, 33, 48, 60, 64, 100, 128, 130, 132, 260])
def test_any_width_of_a_head(kernel, channels):
    inputs = cuda_selftest.make_inputs(((4, 3), (2, 5)), 3, 3, channels, 5)
    assert cuda_selftest.disagreement(kernel, inputs) == ""


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("channels", [5, 12, 40, 128, 136])
def test_types(kernel, dtype, channels):
    inputs = cuda_selftest.make_inputs(((4, 3), (2, 5)), 3, 3, channels, 4, dtype)
    assert cuda_selftest.disagreement(kernel, inputs) == ""


QUEUED = {torch.float32: 3, torch.bfloat16: 4}  # forward; filling, backward; and for halves the conversion


@pytest.mark.parametrize("dtype", QUEUED)
def test_everything_is_queued_on_the_stream_that_is_asked_for(dtype):
    stream = 0x5EED
    kernel = Kernel(emulated.library(), torch.device("cpu"), stream=lambda _: stream)
    inputs = cuda_selftest.make_inputs(((4, 3),), 3, 3, 8, 4, dtype)
    kernel.library.emulated_queued_on(None)
    cuda_selftest.outcome(kernel, inputs)
    assert kernel.library.emulated_queued_on(stream) == QUEUED[dtype]
    cuda_selftest.outcome(kernel, inputs)
    assert kernel.library.emulated_queued_on(stream + 1) == -1


@pytest.mark.parametrize(("dtype", "good"), [(dtype, good) for dtype, count in QUEUED.items() for good in range(count)])
def test_an_error_at_any_place_is_raised(kernel, dtype, good):
    inputs = cuda_selftest.make_inputs(((4, 3),), 3, 3, 8, 4, dtype)
    kernel.library.emulated_fail_after(good, 101)
    with pytest.raises(
        RuntimeError, match=f"{'forward' if good == 0 else 'backward'}.* ended with error .*: an error of"
    ):
        cuda_selftest.outcome(kernel, inputs)
    assert cuda_selftest.disagreement(kernel, inputs) == ""


@pytest.mark.parametrize("case", [case for case in cuda_selftest.CASES if case[-1] == torch.float32], ids=str)
def test_four_additions_at_once(case):
    inputs = cuda_selftest.make_inputs(*case)
    kernel = emulated.kernel(*NEWEST)
    kernel.library.emulated_additions()
    assert cuda_selftest.disagreement(kernel, inputs) == ""
    at_once = kernel.library.emulated_additions()
    one_by_one = emulated.kernel()
    one_by_one.library.emulated_additions()
    cuda_selftest.outcome(one_by_one, inputs)
    assert one_by_one.library.emulated_additions() == at_once * (4 if case[3] % 4 == 0 else 1) > 0


def test_values_that_are_not_aligned(kernel):
    """A tensor may start anywhere in its memory: then channels are loaded one by one."""
    inputs = cuda_selftest.make_inputs(PYRAMID, 5, 2, 32, 4)
    capacity = torch.zeros(inputs.value_BSHD.numel() + 1)
    shifted = capacity[1:].view_as(inputs.value_BSHD).copy_(inputs.value_BSHD)
    assert shifted.data_ptr() % 16
    assert cuda_selftest.disagreement(kernel, inputs._replace(value_BSHD=shifted)) == ""


def test_more_groups_than_blocks():
    """What does not fit into one grid is done by the same blocks, one after the other; images too."""
    inputs = cuda_selftest.make_inputs(((3, 4),), 37, 2, 32, 4, batch=5)
    assert cuda_selftest.disagreement(emulated.kernel(*FEW_BLOCKS), inputs) == ""


@pytest.mark.parametrize(("batch", "queries"), [(0, 5), (2, 0), (0, 0)])
def test_nothing_to_do(kernel, batch, queries):
    inputs = cuda_selftest.make_inputs(((3, 4),), queries, 2, 8, 4, batch=batch)
    result, by_value, by_offsets, by_logits = cuda_selftest.outcome(kernel, inputs)
    assert result.shape == (batch, queries, 16)
    assert torch.equal(by_value, torch.zeros_like(inputs.value_BSHD))
    assert (by_offsets.shape, by_logits.shape) == (inputs.offsets_BQHLP2.shape, inputs.logits_BQHLP.shape)


def test_an_empty_level_and_no_points(kernel):
    with pytest.raises(ValueError, match="there must be heads, channels, levels and points"):
        cuda_selftest.outcome(kernel, cuda_selftest.make_inputs(((3, 4),), 3, 2, 8, 0))
    inputs = cuda_selftest.make_inputs(((3, 4), (2, 2)), 3, 2, 8, 4)
    with_empty = cuda_selftest.make_inputs(((3, 4), (0, 0), (2, 2)), 3, 2, 8, 4)
    with_empty = with_empty._replace(value_BSHD=inputs.value_BSHD)
    result, *gradients = cuda_selftest.outcome(kernel, with_empty)
    assert all(tensor.isfinite().all() for tensor in (result, *gradients))
    assert not gradients[1][:, :, :, 1].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf"), 1e30, -1e6])
@pytest.mark.parametrize("axis", [0, 1])
def test_lost_points_contribute_nothing(kernel, bad, axis):
    inputs = cuda_selftest.make_inputs(PYRAMID, 5, 2, 32, 4)
    inputs.offsets_BQHLP2[:, 2, 1, 0, 1, axis] = bad
    outside = inputs._replace(offsets_BQHLP2=inputs.offsets_BQHLP2.clone())
    outside.offsets_BQHLP2[:, 2, 1, 0, 1, axis] = -1e3  # what the reference is asked about instead
    for ours, truth in zip(
        cuda_selftest.outcome(kernel, inputs), cuda_selftest.expected(outside, torch.float64), strict=True
    ):
        torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=1e-5)
    assert not cuda_selftest.outcome(kernel, inputs)[2][:, 2, 1, 0, 1].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_logits_show_in_their_query_only(kernel, bad):
    inputs = cuda_selftest.make_inputs(PYRAMID, 5, 2, 32, 4)
    inputs.logits_BQHLP[0, 2, 1, 0, 1] = bad
    result, _, by_offsets, by_logits = cuda_selftest.outcome(kernel, inputs)
    hit = torch.zeros(2, 5, 2, dtype=torch.bool)
    hit[0, 2, 1] = True
    assert torch.equal(result.unflatten(-1, (2, 32)).isnan().all(-1), hit)
    assert torch.equal(result.unflatten(-1, (2, 32)).isnan().any(-1), hit)
    assert torch.equal(by_logits.flatten(3).isnan().all(-1), hit)
    assert torch.equal(by_offsets.flatten(3).isnan().any(-1), hit)


def test_a_logit_of_minus_infinity_is_a_weight_of_nothing(kernel):
    inputs = cuda_selftest.make_inputs(PYRAMID, 5, 2, 32, 4)
    inputs.logits_BQHLP[0, 2, 1, 0, 1] = -float("inf")
    low = inputs._replace(logits_BQHLP=inputs.logits_BQHLP.clamp(min=-1e3))
    for ours, truth in zip(
        cuda_selftest.outcome(kernel, inputs), cuda_selftest.expected(low, torch.float64), strict=True
    ):
        torch.testing.assert_close(ours.double(), truth, rtol=1e-5, atol=1e-5)


def test_large_logits_do_not_overflow(kernel):
    inputs = cuda_selftest.make_inputs(PYRAMID, 5, 2, 32, 4)
    assert cuda_selftest.disagreement(kernel, inputs._replace(logits_BQHLP=inputs.logits_BQHLP * 50 + 500)) == ""


def test_the_softmax_is_kept(kernel):
    """In the layout of the CPU kernel: (B, H, Q, 2), the largest logit and 1 / the sum of the exponentials."""
    inputs = cuda_selftest.make_inputs(PYRAMID, 5, 2, 32, 4)
    _, softmax = kernel.forward(*inputs[:4], inputs.sides)
    logits = inputs.logits_BQHLP.flatten(3).transpose(1, 2)
    most = logits.amax(-1)
    torch.testing.assert_close(softmax[..., 0], most)
    torch.testing.assert_close(softmax[..., 1], 1 / (logits - most[..., None]).exp().sum(-1))


def test_the_emulated_kernels_are_no_reference(kernel, monkeypatch):
    """The comparison can fail: a reference that is wrong is noticed."""
    inputs = cuda_selftest.make_inputs(*cuda_selftest.CASES[0])
    true = reference.msda
    monkeypatch.setattr(reference, "msda", lambda value, *rest: true(value * 1.00001, *rest))
    assert "the result is off" in cuda_selftest.disagreement(kernel, inputs)
