"""Locks between processes: who waits, who is refused, and a file system that has none."""

from __future__ import annotations

import ast
import errno
import fcntl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock, Timeout
from locations import ROOT

from unept.utils import file_locks
from unept.utils.file_locks import LockBusy, file_lock

ABSENT = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


@pytest.fixture(autouse=True)
def _forget_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_locks, "_devices_with_locks", set())
    monkeypatch.setattr(file_locks, "LOOK_SECONDS", 0.1)


def without_locks(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "flock", refuse)


class AlwaysHeld(FileLock):
    """As versions of filelock that take every refusal for a lock that another process holds."""

    def acquire(self, *_: Any, timeout: float | None = None, **__: Any) -> Any:
        time.sleep(timeout or 0)
        raise Timeout(self.lock_file)


class LeavesMarker(FileLock):
    """As versions of filelock that put up a marker where there are no locks."""

    def acquire(self, *_: Any, **__: Any) -> Any:
        Path(self.lock_file).touch()


@pytest.mark.parametrize("kind", [FileLock, AlwaysHeld, LeavesMarker])
@pytest.mark.parametrize("number", ABSENT)
def test_a_file_system_without_locks_is_an_error_at_once_that_names_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, kind: type
) -> None:
    without_locks(monkeypatch, number)
    monkeypatch.setattr(file_locks, "FileLock", kind)
    began = time.monotonic()
    with pytest.raises(OSError, match=r".") as refused, file_lock(tmp_path / "x.lock"):
        pytest.fail("the lock was given")
    assert time.monotonic() - began < 10
    assert (refused.value.errno, refused.value.filename) == (number, str(tmp_path))


@pytest.mark.parametrize("number", ABSENT)
def test_locks_that_cease_while_the_program_runs_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with file_lock(tmp_path / "x.lock"):
        pass
    without_locks(monkeypatch, number)
    monkeypatch.setattr(file_locks, "FileLock", AlwaysHeld)
    with pytest.raises(OSError, match=r".") as refused, file_lock(tmp_path / "x.lock"):
        pytest.fail("the lock was given")
    assert refused.value.errno == number


def test_another_process_keeps_the_lock_and_its_end_frees_it(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from unept.utils.file_locks import file_lock\n"
        "with file_lock(Path(sys.argv[1])): print(1, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "x.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"1\n"
        with pytest.raises(LockBusy), file_lock(tmp_path / "x.lock", timeout=0):
            pytest.fail("two have the lock")
        with pytest.raises(LockBusy), file_lock(tmp_path / "x.lock", timeout=0.25):
            pytest.fail("two have the lock")
        other.kill()
    with file_lock(tmp_path / "x.lock", timeout=0):
        pass


def test_one_waits_for_the_other(tmp_path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with file_lock(tmp_path / "x.lock"):
            order.append("second")

    with file_lock(tmp_path / "x.lock"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.25)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_every_lock_of_the_program_is_taken_here() -> None:
    sources = [path for name in ("unept", "bench", "reports", "experiments") for path in (ROOT / name).rglob("*.py")]
    users = {
        path.name
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module == "filelock"
    }
    assert users == {"file_locks.py"}
