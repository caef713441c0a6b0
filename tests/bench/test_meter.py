"""Progress: lines now and then where there is no terminal, a bar where there is one."""

from __future__ import annotations

import io

import pytest

from bench import meter
from bench.meter import Meter


def test_lines_are_rare_and_the_pace_is_that_of_this_call(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with Meter("evaluating a", 100, done=60, stream=out) as shown:
        for done, at in ((61, 1), (70, 10), (71, 12), (80, 20), (81, 21)):
            now[0] = at
            shown.at(done)
    assert out.getvalue().splitlines() == [
        "evaluating a: 70/100 pictures, 30 s left",
        "evaluating a: 80/100 pictures, 20 s left",
    ]


def test_nothing_is_foretold_before_anything_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with Meter("evaluating a", 100, stream=out) as shown:
        now[0] = 30
        shown.at(0)
    assert out.getvalue() == "evaluating a: 0/100 pictures\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_in_a_terminal() -> None:
    out = Terminal()
    with Meter("predicting", 3, stream=out) as shown:
        for done in (1, 2, 3):
            shown.at(done)
    assert "predicting" in out.getvalue()
    assert "3/3" in out.getvalue()
