from __future__ import annotations

import time

import pytest

from bench.training.stopwatch import Stopwatch


def test_neither_probes_nor_hooks_count_as_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    clock = Stopwatch(seconds=7.0, probe_seconds=2.0)  # of the training before it was interrupted
    now += 5
    with clock.probing():
        now += 30
    with clock.pausing():
        now += 400
    now += 1
    assert clock.seconds == 13
    assert clock.probe_seconds == 32
