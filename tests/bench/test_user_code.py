"""A user's code ends, moves, patches and stops no process but its own."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hostile_modules import REFUSED, REFUSED_MADE, UNDONE, source

from bench import user_code
from bench.user_code import UserCodeEnded, call_isolated, run_isolated

DESCRIBE, HERE = "bench.config.user_parameters:describe", "test_user_code"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's modules, in the working directory, and processes for them."""
    for name, text in UNDONE.items() | {(name, text) for name, (text, _) in REFUSED.items()}:
        (tmp_path / f"own_{name}.py").write_text(source(imported=text))
    for name, (text, _) in REFUSED_MADE.items():
        (tmp_path / f"own_{name}.py").write_text(source(constructor=text))
    folders = [str(Path(__file__).parent), str(ROOT)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    monkeypatch.setattr(sys, "path", [*folders, *sys.path])
    monkeypatch.setenv(user_code.LIMIT_VARIABLE, "3")
    monkeypatch.delenv(user_code.VARIABLE)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def state() -> dict[str, Any]:
    """What hostile modules change of the process that imports them; called there."""
    import torch

    random_state = hash(random.getstate())
    return {
        "folder": os.getcwd(),
        "path": [*sys.path],
        "variables": [os.environ.get(name) for name in ("OMP_NUM_THREADS", "UNEPT_BACKEND", "PATH")],
        "stdout": sys.stdout is sys.__stdout__,
        "handlers": [str(signal.getsignal(number)) for number in (signal.SIGTERM, signal.SIGINT)],
        "torch": [str(torch.get_default_dtype()), str(torch.get_default_device()), torch.get_num_threads()],
        "flags": [torch.are_deterministic_algorithms_enabled(), torch.is_grad_enabled()],
        "random": [random_state, torch.default_generator.get_state().sum().item(), torch.initial_seed()],
    }


def make(name: str) -> None:
    """Make the class of a module in a slot; called in the process for it."""
    from unept import attention

    keywords: dict[str, object] = dict.fromkeys(attention.KEYWORDS, 1)
    attention.make_attention("encoder_self", name, keywords)


def command(words: list[str]) -> int:
    """A command: does what its first word says and returns the second."""
    exec(words[0], {})
    return int(words[1])


def refuse(name: str) -> None:
    """Fail as a constructor that refuses a value."""
    raise ValueError(f"{name}: expected another")


def test_what_an_import_does_to_its_process_is_undone(modules: Path) -> None:
    descriptors = sorted(os.listdir("/proc/self/fd"))
    before = call_isolated(f"{HERE}:state", about="own")
    assert len(sorted(os.listdir("/proc/self/fd"))) == len(descriptors) + 1  # the channel
    for name in UNDONE:
        assert call_isolated(DESCRIBE, "encoder_self", f"own_{name}:Own", about="own") == [], name
        assert call_isolated(f"{HERE}:state", about="own") == before, name
    assert Path.cwd() == modules


@pytest.mark.parametrize("name", REFUSED)
def test_an_import_that_cannot_be_borne_is_one_line(name: str) -> None:
    said = REFUSED[name][1].replace("NAME", f"own_{name}")
    with pytest.raises(ValueError, match=f"^encoder_self=own_{name}:Own: {re.escape(said)}$"):
        call_isolated(DESCRIBE, "encoder_self", f"own_{name}:Own", about=f"encoder_self=own_{name}:Own")


@pytest.mark.parametrize("name", REFUSED_MADE)
def test_a_constructor_that_cannot_be_borne_is_one_line(name: str) -> None:
    said = REFUSED_MADE[name][1].replace("NAME", f"own_{name}")
    with pytest.raises(ValueError, match=f"^encoder_self=own_{name}:Own: {re.escape(said)}$"):
        call_isolated(f"{HERE}:make", f"own_{name}:Own", about=f"encoder_self=own_{name}:Own")


def test_a_removed_working_directory_is_said(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (modules / "gone").mkdir()
    monkeypatch.chdir(modules / "gone")
    monkeypatch.syspath_prepend(modules)
    (modules / "own_removes.py").write_text("import os; os.rmdir(os.getcwd())")
    with pytest.raises(ValueError, match=r"importing own_removes removed the working directory .*/gone \(No such file"):
        call_isolated(DESCRIBE, "encoder_self", "own_removes:Own", about="own")


def test_errors_of_values_come_back_and_others_are_the_end_of_the_process() -> None:
    with pytest.raises(ValueError, match=r"^k=0: expected another$"):
        call_isolated(f"{HERE}:refuse", "k=0", about="own:Own")
    with pytest.raises(UserCodeEnded, match=r"^own:Own: its code ended the process without a result \(exit status 1\)"):
        call_isolated(f"{HERE}:command", ["1 / 0", "0"], about="own:Own")
    with pytest.raises(ValueError, match=r"^k=0: expected another$"):  # another process
        call_isolated(f"{HERE}:refuse", "k=0", about="own:Own")


def test_a_call_without_an_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_code, "CALL_ALLOWANCE", 1.0)
    with pytest.raises(ValueError, match=r"^own: its code did not end within 3 s$"):
        call_isolated(f"{HERE}:command", ["while True: pass", "0"], about="own")


def test_in_an_isolated_process_a_function_is_just_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user_code.VARIABLE, "1")
    with pytest.raises(ValueError, match=r"^k=0"):
        call_isolated(f"{HERE}:refuse", "k=0", about="own:Own")
    assert "test_user_code" in sys.modules


def test_a_command_prints_and_its_exit_code_comes_back(capfd: pytest.CaptureFixture[str]) -> None:
    stays = "import os, threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); os.fork()"
    assert run_isolated(f"{HERE}:command", [f"print('hello'); {stays}", "3"], about="own") == 3
    assert capfd.readouterr().out == "hello\n"
    noisy = "from unept.utils import user_code\nwith user_code.running('x'): print('noise')\nprint('hello')"
    assert run_isolated(f"{HERE}:command", [noisy, "0"], about="own") == 0
    assert capfd.readouterr() == ("hello\n", "noise\n")
    with pytest.raises(UserCodeEnded, match=r"^own: its code ended the process without a result \(exit status 0\)$"):
        run_isolated(f"{HERE}:command", ["import os; os._exit(0)", "0"], about="own")


@pytest.mark.parametrize(
    ("text", "signals"),
    [
        ("import time; time.sleep(600)", 1),
        ("import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)", 2),
    ],
)
def test_a_stop_reaches_the_child_and_a_second_one_ends_it(text: str, signals: int) -> None:
    code = (
        "import signal, sys; from bench import user_code; user_code.SECOND_SIGNAL_SECONDS = 0.5\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs ignore it
        f"words = [\"print('begun', flush=True); {text}\", '0']\n"
        f"sys.exit(user_code.run_isolated('{HERE}:command', words, about='own'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        try:
            for _ in range(signals):
                process.send_signal(signal.SIGINT)
                time.sleep(1.0)
            assert process.wait(30) == 130
        finally:
            process.kill()


def test_the_limit_is_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(user_code.LIMIT_VARIABLE)
    assert user_code.limit_seconds() == 60
