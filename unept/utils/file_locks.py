"""Locks between processes, each a file; they end with their process. Imports no torch.

`filelock` holds them. Its versions differ where a file system has no locks, as NFS without its lock daemon: some wait
for ever, some leave a marker instead, which outlives a process that is killed. Here that is an error at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

LOOK_SECONDS = 1.0  # seconds of waiting between two looks at whether the file system still has locks
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
_HELD_ELSEWHERE = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
_devices_with_locks: set[int] = set()


class LockBusy(Exception):
    """Raised where another process holds the lock."""


@contextlib.contextmanager
def file_lock(path: Path, *, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock that the file `path` stands for within the context.

    Args:
        path: The lock's file; its folder must exist.
        timeout: Seconds to wait for another process; None for as long as it takes, 0 to try once.

    Raises:
        LockBusy: Another process holds it.
        OSError: Names the folder; with an errno of NO_LOCKS where its file system has no locks.
    """
    lock, began = FileLock(path), time.monotonic()
    if _device_of(path.parent) not in _devices_with_locks:
        check_locks(path.parent)
    while True:
        left = LOOK_SECONDS if timeout is None else began + timeout - time.monotonic()
        try:
            lock.acquire(timeout=max(0.0, min(left, LOOK_SECONDS)))
            break
        except Timeout:
            check_locks(path.parent)  # some versions take any refusal for a lock that is held
            if left <= LOOK_SECONDS and timeout is not None:
                raise LockBusy(str(path)) from None
        except OSError as error:
            error.filename = error.filename or str(path.parent)
            raise
    try:
        yield
    finally:
        lock.release()


def check_locks(folder: Path) -> None:
    """Raise OSError that names `folder` where its file system has no locks, by locking a new file without a name."""
    try:
        import fcntl
    except ImportError:  # Windows, whose file systems all have them
        return
    try:
        trial = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - a refusal to make it is no refusal to lock
    except OSError:  # a folder that cannot be written may hold the lock's file already
        return
    with trial:
        try:
            fcntl.flock(trial.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _HELD_ELSEWHERE:
                raise OSError(error.errno, os.strerror(error.errno or 0), str(folder)) from None
    _devices_with_locks.add(_device_of(folder))


def _device_of(folder: Path) -> int:
    return folder.stat().st_dev
