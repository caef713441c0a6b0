"""Rounds, their order, what is dropped and what ends them, on tasks whose seconds are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.timing import quartiles, run_in_turns, seconds_of


def counting(calls: list[str]) -> Callable[[str], Callable[[], dict[str, float]]]:
    def make(name: str) -> Callable[[], dict[str, float]]:
        def task() -> dict[str, float]:
            calls.append(name)
            return {"forward": float(len(calls))}

        return task

    return make


def test_quartiles_interpolate_between_values() -> None:
    summary = quartiles([4.0, 1.0, 2.0, 3.0])
    assert (summary.q1, summary.median, summary.q3, summary.n) == (1.75, 2.5, 3.25, 4)
    assert (quartiles([7.0]).q1, quartiles([7.0]).q3) == (7.0, 7.0)


def test_every_second_round_is_reversed_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    task = counting(calls)
    samples = run_in_turns({"a": task("a"), "b": task("b")}, 2)
    assert calls == ["a", "b", "a", "b", "b", "a"]
    assert samples == {("a", "forward"): [3.0, 6.0], ("b", "forward"): [4.0, 5.0]}


def test_the_number_of_rounds_may_follow_from_the_warm_up() -> None:
    calls: list[str] = []
    warm_up: list[float] = []

    def rounds(seconds: float) -> int:
        warm_up.append(seconds)
        return 3

    samples = run_in_turns({"a": counting(calls)("a")}, rounds)
    assert len(samples["a", "forward"]) == 3
    assert len(warm_up) == 1
    assert 0 <= warm_up[0] < 10


def test_a_task_may_drop_out_and_a_caller_may_end_the_rounds() -> None:
    calls: list[str] = []
    task = counting(calls)

    def once() -> dict[str, float]:
        return {} if "once" in calls else task("once")()

    samples = run_in_turns({"a": task("a"), "once": once}, 9, warm_up=False, another=lambda: len(calls) < 4)
    assert {key: len(seconds) for key, seconds in samples.items()} == {("a", "forward"): 3, ("once", "forward"): 1}


def test_seconds_are_those_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.5])
    calls: list[int] = []
    monkeypatch.setattr("bench.timing.time.perf_counter", lambda: next(clock))
    assert seconds_of(lambda: calls.append(1)) == 2.5
    assert calls == [1]
