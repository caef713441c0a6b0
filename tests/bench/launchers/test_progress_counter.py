"""How far one piece of work is: seldom lines in a file, a bar in a terminal."""

from __future__ import annotations

import io

import pytest

from bench.launchers import progress
from bench.launchers.progress import ProgressCounter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    with ProgressCounter("reading", stream) as counter:
        for done in range(1, 31):
            now = float(done)
            counter(done, 30)
    assert stream.getvalue().splitlines() == [
        "reading: 10/30, 20 s left",
        "reading: 20/30, 10 s left",
        "reading: 30/30",
    ]


def test_the_pace_of_continued_work_is_that_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    with ProgressCounter("reading", stream) as counter:
        counter(60, 100)
        now = 10.0
        counter(70, 100)
        now = 100.0
        counter(70, 100)
    assert stream.getvalue().splitlines() == ["reading: 70/100, 30 s left", "reading: 70/100, 5 min left"]


def test_a_bar_in_a_terminal() -> None:
    stream = Terminal()
    with ProgressCounter("reading", stream) as counter:
        counter(1, 4)
        counter(4, 4)
    assert "reading" in stream.getvalue()
    assert "4/4" in stream.getvalue()


def test_nothing_to_count(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressCounter("reading"):
        pass
    assert capsys.readouterr() == ("", "")
