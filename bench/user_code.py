"""Processes for a user's own code, so that it ends, moves, patches or stops nothing but a process of its own.

    call_isolated("bench.config.checks:problems", [settings], about="mine:Mine")   one function's result, as plain data
    run_isolated("cli:main", words, about="mine:Mine")                             a whole command, with its output

The calls of a command share one process, which is started by the first of them. Its standard input is empty, it has a
session of its own, and whatever it has left there is killed with it. Importing a module and making an object may take
LIMIT_SECONDS each, a call CALL_ALLOWANCE times that; this process watches both. Imports no torch.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from types import FrameType
from typing import Any

from bench.child_process import child_command, end_session
from unept.utils import user_code

LIMIT_SECONDS = 60.0  # that importing a module, or making an object of its class, may take
LIMIT_VARIABLE = "UNEPT_BENCH_USER_CODE_SECONDS"  # replaces LIMIT_SECONDS
CALL_ALLOWANCE = 10.0
SECOND_SIGNAL_SECONDS = 3.0  # a later signal to stop is meant: the child is killed
_POLL_SECONDS = 0.1
_CLOSED = 76  # exit status of a process whose channel has been closed there
_MODULE = "bench.user_code"
VARIABLE = "UNEPT_BENCH_USER_CODE"  # set in a process that is there for a user's code
_DUMPS = json.dumps  # as it was before a user's code
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class UserCodeEnded(ValueError):
    """Raised where a user's code ended its process after it had been imported and what it makes had been made."""


def is_isolated() -> bool:
    """Return True in a process that is there for a user's code."""
    return VARIABLE in os.environ


def limit_seconds() -> float:
    """Return the seconds that importing a module or making an object may take."""
    return float(os.environ.get(LIMIT_VARIABLE, LIMIT_SECONDS))


def call_isolated(function: str, *arguments: Any, about: str) -> Any:
    """Return what a function gives in the process of this command; where that is this one, the function is just called.

    Args:
        function: `module:function`; its arguments and result are values that JSON has.
        arguments: What it is called with.
        about: Whose code it runs, with which a message begins.

    Raises:
        ValueError: As the function does; where importing or making something ended the process or took too long.
        UserCodeEnded: Where the code ended the process otherwise.
    """
    if is_isolated():
        return _function(function)(*arguments)
    where = user_code.working_directory()
    child = _shared_child(where, *sys.path)
    if child.has_ended:
        _shared_child.cache_clear()
        child = _shared_child(where, *sys.path)
    return child.call(function, arguments, about=about, seconds=CALL_ALLOWANCE * limit_seconds())


def run_isolated(function: str, words: Sequence[str], *, about: str) -> int:
    """Run a command in a process of its own that prints where this one does, and return its exit code.

    Signals to stop are passed on. One that comes SECOND_SIGNAL_SECONDS after another kills the process.

    Raises:
        ValueError: Where importing or making something ended the process or took too long.
        UserCodeEnded: Where the code ended the process otherwise.
    """
    child = _Child(captures=False, folder=user_code.working_directory(), path=sys.path)
    with _signals_passed_on(child.process) as stopped:
        try:
            return int(child.call(function, [[*words]], about=about))
        except ValueError:
            if stopped:
                return 128 + stopped[0]
            raise
        finally:
            child.end()


class _Child:
    """A process for a user's code, which answers one call after the other.

    Args:
        captures: Keep what it prints from the terminal.
        folder: Its working directory.
        path: Where it imports from.
    """

    def __init__(self, *, captures: bool, folder: str, path: Sequence[str]) -> None:
        self.channel, theirs = socket.socketpair()
        self.answers = bytearray()
        with theirs:
            self.process = subprocess.Popen(
                [*child_command(_MODULE, path), str(theirs.fileno())],
                env={**os.environ, VARIABLE: "1"} | ({"PYTHONSAFEPATH": "1"} if user_code.has_safe_path() else {}),
                cwd=folder or None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if captures else None,
                stderr=subprocess.DEVNULL if captures else None,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def has_ended(self) -> bool:
        """True where it answers no further call."""
        return self.process.poll() is not None

    def end(self) -> None:
        """Kill it, and all that it has started; once, since its number may be another process's afterwards."""
        if self.channel.fileno() < 0:
            return
        self.channel.close()
        end_session(self.process)

    def call(self, function: str, arguments: Sequence[Any], *, about: str, seconds: float = math.inf) -> Any:
        """Return what a function gives there; arguments and errors are those of `call_isolated`."""
        action, began = "", time.monotonic()
        since, allowed = began, math.inf
        try:
            with contextlib.suppress(OSError):  # it has ended, or has closed its end
                self.channel.sendall(_DUMPS({"function": function, "arguments": [*arguments]}).encode() + b"\n")
            for answer in self._answers():
                if answer is None:
                    now = time.monotonic()
                    if now - since > allowed or now - began > seconds:
                        took = allowed if now - since > allowed else seconds
                        raise ValueError(f"{about}: {action or 'its code'} did not end within {took:g} s")
                elif "action" in answer:
                    action, since = answer["action"], time.monotonic()
                    allowed = answer["allowance"] * limit_seconds() if action else math.inf
                elif "error" in answer:
                    raise ValueError(answer["error"])
                elif "value" in answer:
                    return answer["value"]
        except BaseException as error:
            if not isinstance(error, ValueError) or "did not end" in str(error):
                self.end()
            raise
        raise self._ended(about, action)

    def _answers(self) -> Iterator[dict[str, Any] | None]:
        """Yield its answers, and None at least every _POLL_SECONDS, until it has ended or closed its end."""
        closed = False
        while not closed:
            over = self.has_ended  # looked at before what it may have said last
            if select.select([self.channel], [], [], 0 if over else _POLL_SECONDS)[0]:
                try:
                    received = self.channel.recv(1 << 16)
                except OSError:
                    received = b""
                self.answers += received
                closed = not received
            else:
                closed = over
            while b"\n" in self.answers:
                line, _, rest = self.answers.partition(b"\n")
                self.answers = rest
                yield json.loads(line)
            yield None

    def _ended(self, about: str, action: str) -> ValueError:
        """Return the error for a process that ended, or closed its end, without a result."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        status = self.process.returncode
        self.end()
        if status in (None, _CLOSED):
            return ValueError(f"{about}: {action or 'its code'} closed the descriptors of its process")
        end = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        if action:
            return ValueError(f"{about}: {action} ended its process ({end})")
        return UserCodeEnded(f"{about}: its code ended the process without a result ({end})")


@cache
def _shared_child(folder: str, *path: str) -> _Child:
    """Return the process that the calls of a command share: in this working directory, with this import path."""
    child = _Child(captures=True, folder=folder, path=path)
    atexit.register(child.end)
    return child


@contextlib.contextmanager
def _signals_passed_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass signals to stop on to a process within the context; gives the numbers of those that came."""
    came: list[int] = []
    times: list[float] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        came.append(number)
        times.append(time.monotonic())
        late = times[-1] - times[0] > SECOND_SIGNAL_SECONDS
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL if late else number)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in heard}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- in the child -----------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> None:
    """Answer the calls that come through a socket, until it is closed; then end without waiting for any thread."""
    process, channel = os.getpid(), socket.socket(fileno=int(arguments[0]))
    channel.set_inheritable(False)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()

    def tell(**said: Any) -> None:
        if os.getpid() != process:
            os._exit(0)  # a copy that a user's code forked
        try:
            channel.sendall(_DUMPS(said).encode() + b"\n")
        except OSError:
            os._exit(_CLOSED)

    user_code.watch(lambda action, allowance: tell(action=action, allowance=allowance))
    with channel.makefile("rb") as calls:
        for line in calls:
            _answer(json.loads(line), tell)
    os._exit(0)


def _answer(call: dict[str, Any], tell: Callable[..., None]) -> None:
    """Carry out one call; an error that is no ValueError is the end of this process."""
    try:
        said = {"value": _function(call["function"])(*call["arguments"])}
    except ValueError as error:
        said = {"error": str(error)}
    except BaseException:  # no end by the interpreter, which would wait for threads
        traceback.print_exc()
        os._exit(1)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    tell(**said)


def _end_with_parent(parent: int) -> None:
    """End this process when the one that started it has ended."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _function(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return function


if __name__ == "__main__":
    main(sys.argv[1:])
