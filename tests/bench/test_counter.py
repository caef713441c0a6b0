"""How far one piece of work is: seldom lines in a file, a bar in a terminal."""

from __future__ import annotations

import io

import pytest

from bench import progress
from bench.progress import Counter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    stream = io.StringIO()
    with Counter("reading", stream) as counter:
        for done in range(1, 31):
            now = float(done)
            counter(done, 30)
    assert stream.getvalue().splitlines() == ["reading: 10/30", "reading: 20/30", "reading: 30/30"]


def test_a_bar_in_a_terminal() -> None:
    stream = Terminal()
    with Counter("reading", stream) as counter:
        counter(1, 4)
        counter(4, 4)
    assert "reading" in stream.getvalue()
    assert "4/4" in stream.getvalue()


def test_nothing_to_count(capsys: pytest.CaptureFixture[str]) -> None:
    with Counter("reading"):
        pass
    assert capsys.readouterr() == ("", "")
