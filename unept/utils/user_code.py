"""A user's own code while it runs in this process: what it does to the process around it is undone or refused."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from inspect import getattr_static
from typing import Any

Watcher = Callable[[str, float], None]
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_OUR_VARIABLES = "UNEPT_"
_STREAMS = ("stdin", "stdout", "stderr")
_CUDNN_FLAGS = ("benchmark", "deterministic", "allow_tf32", "enabled")
_watchers: list[Watcher] = []
_actions: list[tuple[str, float]] = []  # what runs now, the innermost last, with its share of the limit


class UserCodeError(ValueError):
    """Raised where a user's code did what no program can go on from; the message is one line."""


def watch(watcher: Watcher) -> None:
    """Call `watcher` with what a user's code begins to do, such as `importing mine`, and with "" when it has ended.

    Its second argument is the share of the time limit that this may take: 1 for the limit itself.
    """
    _watchers.append(watcher)


@contextlib.contextmanager
def running(action: str, *, allowance: float = 1.0) -> Iterator[None]:
    """Run a user's code in the context. What it prints goes to standard error.

    Afterwards the working directory, the standard streams, the handlers of signals, our environment variables, and
    torch's defaults (type, device, threads, gradients, determinism, precision) are what they were, and a copy of this
    process that the code forked has ended.

    Args:
        action: What the code does, such as `importing mine`.
        allowance: The share of the time limit that it may take, for the watchers.

    Raises:
        UserCodeError: The code has replaced functions of torch, or removed the working directory.
    """
    process, folder, kept = os.getpid(), working_directory(), [(get, put, get()) for get, put in _settings()]
    functions = _torch_functions()
    sys.stdout = sys.stderr  # results are printed elsewhere
    _actions.append((action, allowance))
    _tell()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)
        for get, put, before in kept:
            if get() != before:
                put(before)
        _actions.pop()
        _tell()
        replaced = _put_back(functions)
        return_to(folder, action)
    if replaced:
        more = f" and {len(replaced) - 1} more" if len(replaced) > 1 else ""
        raise UserCodeError(f"{action} replaced {replaced[0]}{more}: what is measured must be torch's own")


@contextlib.contextmanager
def random_numbers_kept() -> Iterator[None]:
    """Put back the state of Python's, numpy's and torch's random numbers after the context."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    pythons, numpys = random.getstate(), numpy.random.get_state() if numpy else None
    torchs = torch.default_generator.get_state() if torch else None
    try:
        yield
    finally:
        random.setstate(pythons)
        if numpy:
            numpy.random.set_state(numpys)
        if torch:
            torch.default_generator.set_state(torchs)


@contextlib.contextmanager
def seed_kept(action: str) -> Iterator[None]:
    """Refuse a user's code that seeds torch's random numbers, by which every seed would be the same.

    Raises:
        UserCodeError: The seed is another after the context.
    """
    generator = sys.modules["torch"].default_generator
    before = generator.initial_seed()
    yield
    if generator.initial_seed() != before:
        raise UserCodeError(f"{action} seeded torch's random numbers, so that runs of all seeds would be alike")


class CallGuard:
    """Hooks of a user's module: after each call the working directory is what it was, and a forked copy has ended.

    Args:
        module: The module.
        action: What its calls are, such as `a call of mine:Mine`.
    """

    def __init__(self, module: Any, action: str) -> None:
        self.action = action
        self.process, self.folder = 0, ""
        module.register_forward_pre_hook(self.begin)
        module.register_forward_hook(self.end, always_call=True)

    def begin(self, *_: object) -> None:
        """Note process and working directory."""
        if not sys.modules["torch"].compiler.is_compiling():
            self.process, self.folder = os.getpid(), working_directory()

    def end(self, *_: object) -> None:
        """Return there, and end a copy of the process."""
        if not sys.modules["torch"].compiler.is_compiling():
            if os.getpid() != self.process:
                os._exit(0)
            return_to(self.folder, self.action)


def return_to(folder: str, action: str) -> None:
    """Change the working directory to `folder` unless it is that; nothing for "".

    Raises:
        UserCodeError: It is not there any more; `action` is what removed it.
    """
    if folder and working_directory() != folder:
        try:
            os.chdir(folder)
        except OSError as error:
            raise UserCodeError(f"{action} removed the working directory {folder} ({error.strerror})") from None


def has_safe_path() -> bool:
    """Return True where Python leaves the working directory out of its path."""
    return bool(os.environ.get("PYTHONSAFEPATH") or getattr(sys.flags, "safe_path", False))


def working_directory() -> str:
    """Return the working directory; "" where it has been removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def error_text(error: BaseException) -> str:
    """Return class and message of an error, and the file and line that raised it."""
    if isinstance(error, SystemExit):
        return f"it ended the program (SystemExit: {error})"
    frames = traceback.extract_tb(error.__traceback__)
    known = isinstance(error, ImportError | SyntaxError) or not frames  # they say it, or it is in Python's importer
    where = "" if known else f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})"
    message = f": {error}" if str(error) else ""
    return f"{type(error).__name__}{message}{where}"


def _tell() -> None:
    for watcher in _watchers:
        watcher(*(_actions or [("", 1.0)])[-1])


def _settings() -> Iterator[tuple[Callable[[], Any], Callable[[Any], Any]]]:
    """Yield how each setting of the process is read and put back."""
    yield lambda: [getattr(sys, name) for name in _STREAMS], _put_streams
    yield _environment, _put_environment
    if threading.current_thread() is threading.main_thread():
        yield lambda: [signal.getsignal(number) for number in _SIGNALS], _put_handlers
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return
    yield torch.get_default_dtype, torch.set_default_dtype
    yield torch.get_num_threads, torch.set_num_threads
    yield torch.is_grad_enabled, torch.set_grad_enabled
    yield torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly
    yield torch.get_float32_matmul_precision, torch.set_float32_matmul_precision
    yield torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms
    yield _cudnn_flags, _put_cudnn_flags
    holder = getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)  # get_default_device would tell a `with` of ours
    yield (
        lambda: getattr(getattr(holder, "device_context", None), "device", None),
        torch.set_default_device,
    )


def _put_streams(streams: list[Any]) -> None:
    for name, stream in zip(_STREAMS, streams, strict=True):
        setattr(sys, name, stream)


def _environment() -> dict[str, str]:
    return dict(os.environ)


def _put_environment(before: dict[str, str]) -> None:
    """Put back what was changed or removed, and remove what was added under a name of ours."""
    for name in [name for name in os.environ if name.startswith(_OUR_VARIABLES) and name not in before]:
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def _cudnn_flags() -> list[bool]:
    return [getattr(sys.modules["torch"].backends.cudnn, name) for name in _CUDNN_FLAGS]


def _put_cudnn_flags(flags: list[bool]) -> None:
    for name, value in zip(_CUDNN_FLAGS, flags, strict=True):
        setattr(sys.modules["torch"].backends.cudnn, name, value)


def _put_handlers(handlers: list[Any]) -> None:
    for number, handler in zip(_SIGNALS, handlers, strict=True):
        signal.signal(number, handler)


def _torch_functions() -> list[tuple[str, Any, dict[str, Any]]]:
    """Return the functions of torch, as the name of what holds them, that itself, and its functions by name."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return []
    holders = {"torch": torch, "torch.nn": torch.nn, "torch.nn.functional": torch.nn.functional}
    holders |= {"torch.nn.init": torch.nn.init, "torch.autograd": torch.autograd}
    holders |= {f"torch.nn.{name}": kind for name, kind in vars(torch.nn).items() if isinstance(kind, type)}
    functions = [
        (name, holder, {key: value for key, value in vars(holder).items() if callable(value)})
        for name, holder in holders.items()
    ]
    tensor = torch.Tensor  # its methods are those of a class below it
    return [*functions, ("torch.Tensor", tensor, {key: getattr_static(tensor, key) for key in dir(tensor)})]


def _put_back(functions: list[tuple[str, Any, dict[str, Any]]]) -> list[str]:
    """Put back the functions that have been replaced by another's than torch's own, and return their names."""
    replaced = []
    for holder_name, holder, before in functions:
        values = vars(holder)
        for name, value in before.items():
            now = values.get(name, value)
            if now is not value and not _is_of_torch(now):
                replaced.append(f"{holder_name}.{name}")
                setattr(holder, name, value)
    return replaced


def _is_of_torch(function: Any) -> bool:
    """Return True for what torch itself puts into the place of a function, as its compiler does when it is imported."""
    names = getattr(function, "__globals__", None) or {"__name__": getattr(function, "__module__", "")}
    return str(names.get("__name__")).partition(".")[0] == "torch"
