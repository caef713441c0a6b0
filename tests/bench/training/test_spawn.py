"""Processes that train together end together, and the cause is said in one line."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import failing_work
import pytest

from bench import environment
from bench.training.loop import TrainingStopped
from bench.training.spawn import DIVERGED, TrainingDiverged, TrainingFailed, _raise_cause, launch_processes


def alive(folder: Path) -> list[int]:
    """Those of the processes that are left."""

    def there(pid: int) -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True

    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal() and there(int(path.name))]


@pytest.mark.slow
def test_one_that_raises_ends_all(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"^process 1 of 2: ValueError: picture 7 is damaged$"):
        launch_processes(failing_work.raising, str(tmp_path), processes=2, gpus=False, threads=1)
    assert len(list(tmp_path.iterdir())) == 2
    assert alive(tmp_path) == []


@pytest.mark.slow
def test_one_that_is_killed_ends_all(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingFailed, match=r"^process 1 of 2 was killed by signal 9 \(SIGKILL\); the others are ended$"
    ):
        launch_processes(failing_work.killed, str(tmp_path), processes=2, gpus=False, threads=1)
    assert alive(tmp_path) == []


@pytest.mark.slow
def test_told_to_stop_they_all_do(tmp_path: Path) -> None:
    def tell() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell, daemon=True).start()
    with pytest.raises(TrainingStopped, match="12"):
        launch_processes(failing_work.stopping, str(tmp_path), processes=2, gpus=False, threads=1)
    assert alive(tmp_path) == []


@pytest.mark.slow
def test_what_they_tell_each_other(tmp_path: Path) -> None:
    launch_processes(failing_work.both, str(tmp_path), processes=2, gpus=False, threads=1)
    assert [(tmp_path / f"seen {rank}").read_text() for rank in (0, 1)] == [
        "[3, True, [0, 1], True]",
        "[3, True, [0, 1], False]",
    ]


@pytest.mark.parametrize(
    ("codes", "said", "told", "message"),
    [
        ([1, -9], [(0, 1, "RuntimeError: connection closed")], "", "process 1 of 2 was killed by signal 9"),
        ([1, 1], [(1, 1, "first"), (0, 1, "second")], "", "^process 1 of 2: first$"),
        ([0, 3], [], "", "process 1 of 2 ended with exit code 3, without a word"),
    ],
)
def test_the_first_cause(codes: list[int | None], said: list[tuple[int, int, str]], told: str, message: str) -> None:
    with pytest.raises(TrainingFailed, match=message):
        _raise_cause(codes, said, told)


def test_a_divergence_is_told_from_a_failure() -> None:
    with pytest.raises(TrainingDiverged, match=r"^step 3: loss is nan$"):
        _raise_cause(
            [DIVERGED, 1], [(0, DIVERGED, "step 3: loss is nan"), (1, 1, "RuntimeError: connection closed")], ""
        )


def test_an_end_without_a_cause() -> None:
    _raise_cause([0, 0], [], "")
    with pytest.raises(TrainingStopped, match="8"):
        _raise_cause([130, 130], [(0, 130, "8"), (1, 130, "8")], "signal 15 (SIGTERM)")
    with pytest.raises(TrainingStopped, match="8"):
        _raise_cause([1, 130], [(0, 1, "RuntimeError: connection closed"), (1, 130, "8")], "signal 15 (SIGTERM)")


def test_torchrun_is_known_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    assert environment.torchrun_size() == 0
    for name, value in (("RANK", "1"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "here")):
        monkeypatch.setenv(name, value)
    assert environment.torchrun_size() == 4
