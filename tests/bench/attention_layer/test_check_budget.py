"""A check ends in time whatever the attention does, and says what it had no time for."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

import cli
from bench import attention_layer as checks
from bench.attention_layer import CheckEffort, timing
from bench.attention_layer import budget as budgets
from bench.attention_layer.budget import OutOfTime, TimeBudget
from unept.config import ModelConfig

SMALL = ModelConfig(width=32, points=4)
QUICK = CheckEffort(side=12, middle=12, reach=6, queries=2, sides=(6, 12), seconds=0)
CHECKS = 12


class Clock:
    """A clock that a slow attention moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that `wrong_attentions:Slow` moves on."""
    made = Clock()
    monkeypatch.chdir(Path(__file__).parent)
    monkeypatch.setattr("wrong_attentions.Slow.wait", lambda seconds: setattr(made, "now", made.now + seconds))
    return made


def checked(seconds_a_call: float, clock: Clock, seconds: float = 50.0) -> list[checks.CheckLine]:
    subject = checks.attention_from_options(
        "encoder_self", "wrong_attentions:Slow", [f"seconds={seconds_a_call}"], SMALL
    )
    return checks.check_attention(subject, effort=QUICK, budget=TimeBudget(seconds, clock))


def test_what_is_fast_enough_is_checked_as_ever(clock: Clock) -> None:
    lines = checked(0.0, clock)
    assert len({line.name for line in lines}) == CHECKS
    assert not any(line.is_stopped for line in lines)


@pytest.mark.parametrize("seconds_a_call", [1.0, 3.0, 7.0, 40.0])
def test_a_slow_one_ends_in_time_and_every_check_has_its_line(clock: Clock, seconds_a_call: float) -> None:
    began = clock.now
    lines = checked(seconds_a_call, clock)
    assert clock.now - began <= 50.0 + seconds_a_call, "one call comes to its end"
    assert len({line.name for line in lines}) == CHECKS
    stopped = [line for line in lines if line.is_stopped]
    assert stopped
    assert all(line.status == "WARN" and "nothing is known of it" in line.text for line in stopped)
    last = checks.summary_line(lines, 50.0)
    assert last.endswith(f" in 50 s; no time was left for {', '.join(line.name for line in stopped)}")


def test_checks_behind_a_slow_one_have_their_turn(clock: Clock) -> None:
    """The gradients take hundreds of calls, the figures of cost few."""
    by_name = {line.name: line for line in checked(3.0, clock, seconds=100.0)}
    assert by_name["gradients in float64"].is_stopped
    assert by_name["determinism in evaluation"].status == "PASS"


def test_python_code_that_does_not_end_is_stopped_in_the_middle() -> None:
    budget = TimeBudget(0.2)
    began = time.monotonic()
    with pytest.raises(OutOfTime), budget.one_check(is_last=True):
        _never_end()
    assert time.monotonic() - began < 5
    time.sleep(0.25)  # no alarm is left behind


def _never_end() -> None:
    while True:
        pass


def test_the_shares_are_halves_of_what_is_left_and_the_last_has_all(clock: Clock) -> None:
    budget = TimeBudget(48.0, clock)
    for is_last, seconds in ((False, 24.0), (False, 12.0), (True, 12.0)):
        with budget.one_check(is_last=is_last):
            assert budget.check_end - clock.now == seconds
            clock.now += seconds
    assert budget.left == 0.0
    with pytest.raises(OutOfTime), budget.one_check():
        raise AssertionError("nothing may begin")


def test_times_are_planned_for_half_of_what_is_left(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[float] = []
    monkeypatch.setattr(timing, "check_time", lambda _, __, ___, seconds: planned.append(seconds) or [])
    subject = checks.attention_from_options("encoder_self", "none", [], SMALL)
    for left in (100.0, 30.0):
        effort = replace(QUICK, seconds=20.0)
        checks.check_attention(subject, effort=effort, budget=TimeBudget(left, clock))
    assert planned == [20.0, 15.0]


def test_the_command_says_what_it_had_no_time_for(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    del clock
    monkeypatch.setattr("wrong_attentions.Slow.wait", time.sleep)
    monkeypatch.setattr(checks, "CheckEffort", lambda: QUICK)
    monkeypatch.setattr(checks, "CHECK_SECONDS", 2.0)
    assert cli.main(["check", "wrong_attentions:Slow", "--set", "seconds=0.2"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == CHECKS + 1
    assert "; no time was left for " in told[-1]
    assert budgets.CHECK_SECONDS < 60
