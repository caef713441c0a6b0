"""One line of a check's answer, and the line that an exception becomes."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

Status = Literal["PASS", "FAIL", "WARN", "INFO"]
MAX_MESSAGE = 240  # characters of an exception's message
_NOT_THE_USERS = (Path(torch.__file__).parent, Path(__file__).parents[1])


@dataclass(frozen=True, kw_only=True)
class CheckLine:
    """Result of one check: status, name, one line of text, and True in `is_stopped` where it had no time to end."""

    status: Status
    name: str
    text: str
    is_stopped: bool = False

    def __str__(self) -> str:
        return f"{self.status}  {self.name}: {self.text}"


def failure_line(name: str, error: BaseException) -> CheckLine:
    """Return a FAIL line with the exception and the line of the attention's source that it comes from."""
    return CheckLine(status="FAIL", name=name, text=describe_exception(error))


def describe_exception(error: BaseException) -> str:
    """Return the exception in one line, with the file and line of the user's source."""
    message = " ".join(str(error).split())
    message = f"{message[:MAX_MESSAGE]}..." if len(message) > MAX_MESSAGE else message
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not _elsewhere(Path(frame.filename))]
    source_line = f" ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else ""
    return f"{type(error).__name__}: {message}{source_line}"


def _elsewhere(file: Path) -> bool:
    return any(folder in file.parents for folder in _NOT_THE_USERS)
