"""Streams and surroundings of the program: closed, full, without a reader, without a home, without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from command_line import assert_usage_error
from locations import ROOT

import cli
from experiments.commands.console import explain_os_error, print_lines, print_progress
from unept.utils import file_locks

POWER = ("power", "--difference", "0.5", "--sd", "0.3")  # a verb that imports no torch
PROGRAM = (sys.executable, "-c", "import cli, sys; sys.exit(cli.main())")


def started(words: Sequence[str], redirections: str = "", **more: Any) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, with a shell's redirections."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)}
    command = ["bash", "-c", f'"$@" {redirections}', "bash", *PROGRAM, *words]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False, timeout=300, **more)


def test_a_reader_that_goes_away_is_no_error_and_nobodys_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        ended = subprocess.run(
            [*PROGRAM, *POWER], stdout=output, stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(ROOT)}
        )
    assert (ended.returncode, ended.stderr) == (130, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no full device")
def test_an_output_that_takes_nothing_is_refused_in_one_line() -> None:
    ended = started(POWER, ">/dev/full")
    assert ended.returncode == 2
    assert ended.stderr == "unept-bench: standard output cannot be written (No space left on device)\n"


@pytest.mark.parametrize("redirections", [">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_streams_are_as_if_nothing_were_printed(redirections: str) -> None:
    ended = started(POWER, redirections)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert bool(ended.stdout) == (">" not in redirections)


def test_a_file_never_takes_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    code = (
        "import os; from experiments.commands.console import visible_output\n"
        "with visible_output(): os._exit(os.open('x', os.O_CREAT | os.O_WRONLY))"
    )
    ended = subprocess.run(
        ["bash", "-c", '"$@" <&- >&- 2>&-', "bash", sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert ended.returncode > 2, "the number of the first file that is opened"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict"])
def test_names_of_any_bytes_are_printed(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    ended = started(["report", "caf\udce9\x1b[31m"])
    assert ended.returncode == 2
    assert ended.stderr == "unept-bench: caf\\xe9\\x1b[31m: no study here (no readable study.json)\n"


@pytest.mark.parametrize(
    "words",
    [
        ("report", "~nosuchuser/x"),
        ("data", "verify", "folder:~nosuchuser/x"),
        ("data", "verify", "~nosuchuser"),
        ("train", "--preset", "quick", "--out", "~nosuchuser/x", "--dry-run"),
        ("ablate", "--grid", "N=4", "--dry-run", "--data", "folder:~nosuchuser/x"),
    ],
    ids=" ".join,
)
def test_a_home_that_nobody_has_is_refused_by_name(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "~nosuchuser" in assert_usage_error(capsys, *words)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_folder_without_locks_is_refused_before_anything_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, "refused")

    monkeypatch.setattr(file_locks, "_devices_with_locks", set())
    monkeypatch.setattr(fcntl, "flock", refuse)
    out = tmp_path / "s"
    said = assert_usage_error(capsys, "ablate", "--grid", "N=4", "--seeds", "1", "--out", str(out))
    assert said.startswith(f"{out}: the file system of this folder has no file locks (")
    assert not (out / "study.json").exists()


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EFBIG, "larger than a file of this process may be (ulimit -f)"),
        (errno.EMFILE, "more files are open than this process may have (ulimit -n)"),
        (errno.EAGAIN, "no further process or thread may be started (ulimit -u)"),
    ],
)
def test_limits_are_explained(number: int, words: str) -> None:
    assert explain_os_error(OSError(number, "x", "a/b")) == (
        f"a/b: {words}; finished runs are kept, and the same command continues"
    )


def test_a_file_size_limit_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "hours"
    ended = started(["hours", "--out", str(out)], f"2>{tmp_path / 'said'}", preexec_fn=_limit_files)
    assert ended.returncode == 2
    assert (tmp_path / "said").read_text() == (
        f"unept-bench: --out {out}: a file of this process may have 2,000 bytes at most (ulimit -f): expected "
        "8,388,608 or more, as a report may take; raise the limit\n"
    )
    assert not out.exists()


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))


def test_a_file_name_with_a_line_end_makes_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    forged = "x\nunept-bench: all is well: no such picture"
    print_progress(forged)
    print_lines(["first", forged])
    told = capsys.readouterr()
    assert told.err == "x\\nunept-bench: all is well: no such picture\n"
    assert told.out == f"first\n{told.err}"


def test_main_shows_what_steers_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "a\x1b]0;x\x07\u202e"]) == 2
    assert capsys.readouterr().err == "unept-bench: a\\x1b]0;x\\x07\\u202e: no study here (no readable study.json)\n"
