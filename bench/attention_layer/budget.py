"""Seconds that the checks of an attention may take: in all, and each of them a share of what is left."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

CHECK_SECONDS = 50.0  # of all checks, imports included: under a minute with what comes before and after
SHARE = 0.5  # of the seconds that are left, for a check with others after it


class OutOfTime(BaseException):
    """Raised where a check has had its seconds. No Exception: an attention that catches those cannot hold it up."""


class TimeBudget:
    """The seconds of all checks.

    A check is stopped between two calls of the attention and, in the main thread, in the middle of its Python code. A
    single operator of torch comes to its end first.
    """

    def __init__(self, seconds: float = CHECK_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        """Start to count.

        Args:
            seconds: For all checks.
            clock: Gives seconds.
        """
        self.clock = clock
        self.end = clock() + seconds
        self.check_end = self.end

    @property
    def left(self) -> float:
        """Seconds until the end of all checks, at least 0."""
        return max(0.0, self.end - self.clock())

    @contextlib.contextmanager
    def one_check(self, *, is_last: bool = False) -> Iterator[None]:
        """Give a check its share of the seconds that are left, and raise OutOfTime within the context once they are up.

        Args:
            is_last: True for the last check, which may have all of them.
        """
        seconds = self.left if is_last else SHARE * self.left
        self.check_end = self.clock() + seconds
        try:
            with _alarm_after(seconds):
                self.require_time()
                yield
        finally:
            self.check_end = self.end

    def require_time(self) -> None:
        """Raise OutOfTime if the check that runs has had its seconds."""
        if self.clock() >= self.check_end:
            raise OutOfTime


@contextlib.contextmanager
def _alarm_after(seconds: float) -> Iterator[None]:
    """Raise OutOfTime within the context after so many seconds, where signals can be had."""
    if seconds <= 0 or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
