"""Medians, pairs of rounds and keys, on numbers whose answers are known; how sides are found and timed."""

from __future__ import annotations

import csv
import io
import itertools
import sys

import pytest
import torch

from bench.microbench import rows, timing
from bench.microbench.operator.cases import CASES, QUICK_CASES, OperatorCase, model_case, select_cases
from bench.microbench.operator.implementations import operator_implementations
from bench.microbench.operator.inputs import make_inputs
from bench.microbench.operator.request import OperatorBenchRequest
from bench.microbench.rows import RowContext
from unept.ops import reference

PLACE = RowContext(part="operator", malloc="tuned", shape="small", threads=2)


def test_a_row_has_median_and_quartiles() -> None:
    row = PLACE.row("mmcv", "forward", "seconds", [5.0, 1.0, 3.0, 2.0, 4.0], every=True)
    assert (row.value, row.q1, row.q3, row.n) == (3.0, 2.0, 4.0, 5)
    assert row.rounds == "5 1 3 2 4"
    assert row.key == "operator/tuned/small/mmcv/forward/seconds"


def test_a_ratio_is_the_median_over_rounds_and_not_the_ratio_of_medians() -> None:
    """A load that meets both sides of a round leaves their ratio alone."""
    samples = {
        ("native", "forward"): [1.0, 10.0, 1.0],
        ("mmcv", "forward"): [4.0, 40.0, 40.0],
        ("mmcv", "held"): [1.0, 1.0, 1.0],
    }
    (row,) = rows.ratio_rows(PLACE, samples, "native")
    assert (row.side, row.phase, row.value) == ("mmcv", "forward", 4.0)
    assert sorted(samples["mmcv", "forward"])[1] / sorted(samples["native", "forward"])[1] == 40.0


def test_core_nanoseconds_count_every_thread() -> None:
    found = {
        row.quantity: row.value for row in rows.timing_rows(PLACE, {("native", "forward"): [3e-3]}, points=1_000_000)
    }
    assert found == {"seconds": 3e-3, "core_ns_per_point": pytest.approx(6.0)}


def test_the_table_has_a_key_a_row_and_refuses_two_of_one() -> None:
    made = [PLACE.row(side, "forward", "seconds", [1 / 3]) for side in ("native", "mmcv")]
    read = list(csv.DictReader(io.StringIO(rows.rows_to_csv(made))))
    assert list(read[0]) == list(rows.ROW_COLUMNS)
    assert [line["value"] for line in read] == ["0.333333"] * 2
    with pytest.raises(AssertionError, match="operator/tuned/small/native/forward/seconds"):
        rows.rows_to_csv([made[0], made[0]])


def test_rounds_turn_and_the_first_is_thrown_away() -> None:
    calls: list[str] = []
    clock = itertools.count()

    def task(name: str) -> timing.TimedTask:
        def run() -> dict[str, float]:
            calls.append(name)
            return {"forward": float(next(clock))}

        return run

    found = timing.time_interleaved({"a": task("a"), "b": task("b")}, 1)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert found == {("a", "forward"): [2.0, 5.0, 6.0], ("b", "forward"): [3.0, 4.0, 7.0]}


@pytest.mark.parametrize(("seconds", "rounds"), [(0.001, 21), (0.4, 10), (0.7, 7), (60.0, 7)])
def test_short_rounds_are_repeated_more(seconds: float, rounds: int) -> None:
    assert timing.round_count(7, seconds) == rounds


def test_every_side_that_is_there_computes_the_same() -> None:
    case = OperatorCase(((5, 9), (3, 3)), batch=2, queries=17, heads=2, channels=8, points=4)
    there = [side for side in operator_implementations() if side.run]
    assert {"reference", "mmcv"} <= {side.name for side in there}
    for side in there:
        assert side.run is not None
        assert timing.operator_disagreement(side.run, reference.msda, case) < 1e-4, side.name


def test_a_side_that_is_wrong_disagrees() -> None:
    case = OperatorCase(((5, 9), (3, 3)))

    def wrong(value, place, offsets, logits, shapes):
        return reference.msda(value, place, offsets * 1.01, logits, shapes)

    assert timing.operator_disagreement(wrong, reference.msda, case) > 1e-3


def test_the_others_get_locations_and_weights() -> None:
    case = OperatorCase(((5, 9), (3, 3)))
    _, place, offsets, logits, _ = make_inputs(case)
    locations, weights = reference.materialised(place, offsets, logits, case.shapes)
    assert torch.allclose(weights.sum((3, 4)), torch.ones(()).double())
    assert locations[0, 2, 1, 0, 1, 0] == place[2, 0] + offsets[0, 2, 1, 0, 1, 0] / 9
    assert locations[0, 2, 1, 1, 1, 1] == place[2, 1] + offsets[0, 2, 1, 1, 1, 1] / 3


def test_mmcv_is_left_as_it_was() -> None:
    operator_implementations()
    from mmcv.utils import ext_loader

    assert ext_loader.load_ext.__module__ == "mmcv.utils.ext_loader"
    assert "mmcv.ops" in sys.modules
    with pytest.raises(RuntimeError, match="no compiled ms_deform_attn_forward"):
        sys.modules["mmcv.ops.multi_scale_deform_attn"].ext_module.ms_deform_attn_forward()


def test_a_side_that_is_not_there_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_ms_deform_attn", None)
    (rival,) = [side for side in operator_implementations() if side.name == "torch-ms-deform-attn"]
    assert rival.run is None
    assert "is not installed" in rival.missing
    assert rival.missing.endswith("pip install --no-deps --no-build-isolation torch-ms-deform-attn")


def test_queries_of_the_named_shapes_look_from_one_pixel_after_the_other() -> None:
    _, place, *_ = make_inputs(model_case(3, 1, 20, levels=2), torch.float32)
    first = [[(x + 0.5) / 3, (y + 0.5) / 3] for y in range(3) for x in range(3)]
    assert torch.allclose(place, torch.tensor([*first, *first, *first[:2]]))
    assert all(case.ordered for case in CASES.values())
    _, scattered, *_ = make_inputs(model_case(3, 1, 20, levels=2)._replace(ordered=False), torch.float32)
    assert not torch.allclose(scattered, place)


def test_shapes_by_name() -> None:
    assert list(select_cases((), CASES)) == list(CASES)
    assert select_cases(("small",), CASES) == {"small": CASES["small"]}
    assert CASES["r50-encoder"].samples == 4_147_200
    assert CASES["r50-encoder"].tokens == CASES["r50-encoder"].queries
    with pytest.raises(ValueError, match="unknown shape 'small'; there are tiny"):
        select_cases(("small",), QUICK_CASES)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 0}, "--threads 0: expected 1 or more"),
        ({"threads": 4096}, "--threads 4096: this process may use"),
        ({"repeats": 0}, "--repeats 0: expected 1 or more"),
        ({"shapes": ("large",)}, "unknown shape 'large'; there are small, deit-encoder"),
    ],
)
def test_requests_that_make_no_sense(tmp_path, options, said) -> None:
    with pytest.raises(ValueError, match=said):
        OperatorBenchRequest(out=tmp_path, **{"threads": 1, **options})
