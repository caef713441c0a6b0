"""What a training says while it goes on: lines on the screen, lines of JSON in its folder, TensorBoard if asked for."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.environment import peak_resident_gib
from bench.launchers.eta import format_duration
from bench.results.rows import json_value
from bench.results.store import utc_now
from unept.losses.total_loss import Losses

LINE_INTERVAL_SECONDS = 10.0  # seconds between two lines on the screen
Log = Callable[[str], None]


class TrainLogger:
    """The first process's. Lines of the log are appended and never changed: `{"event": "step", "step": 50, ...}`.

    After a process was killed, the steps since its last checkpoint come again behind a line `began`.
    """

    def __init__(self, log: Path, *, steps: int, batch: int, device: torch.device, board: Any = None) -> None:
        self.log, self.steps, self.batch, self.device, self.board = log, steps, batch, device, board
        self.first = self.last = self.spoke = 0.0
        self.begun = 0
        self.paused = 0.0  # seconds since the last step was logged that were not training

    def event(self, name: str, **facts: Any) -> None:
        """One line of the log."""
        text = json.dumps(json_value({"event": name, "time": utc_now(), **facts}), allow_nan=False)
        with open(self.log, "ab+") as file:
            if file.tell() and _unfinished(file):
                file.write(b"\n")
            file.write(f"{text}\n".encode())

    def start(self, step: int, **facts: Any) -> None:
        """Training begins, or goes on, after `step` steps."""
        self.event("began", step=step, **facts)
        self.begun = step
        self.first = self.spoke = time.monotonic()

    def say(self, line: str) -> None:
        """A line on the screen."""
        print(line, file=sys.stderr, flush=True)

    def step(self, step: int, losses: Losses, rate: float, *, log: bool) -> None:
        """`step` steps are done; `log` says whether the log is told."""
        seconds = time.monotonic() - self.first - self.paused
        pace = (step - self.begun) * self.batch / seconds if seconds > 0 else math.inf
        memory = self.memory_gib()
        if log:
            terms = {name: term.item() for name, term in losses._asdict().items()}
            self.event("step", step=step, **terms, rate=rate, images_per_second=pace, memory_gib=memory)
            self._draw(step, {f"loss/{name}": value for name, value in terms.items()} | {"rate": rate, "pace": pace})
        if time.monotonic() - self.spoke >= LINE_INTERVAL_SECONDS or step == self.steps:
            self.spoke = time.monotonic()
            left = format_duration((self.steps - step) * self.batch / pace) if math.isfinite(pace) else "?"
            held = f", {memory:.1f} GiB" if memory else ""
            self.say(
                f"step {step}/{self.steps}: loss {losses.total.item():.3f}, rate {rate:.2g}, "
                f"{pace:.3g} images/s{held}, {left} left"
            )

    def evaluated(self, step: int, metrics: dict[str, Any], seconds: float) -> None:
        """The whole protocol was done after `step` steps and took so long."""
        self.paused += seconds
        numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
        self.event("evaluated", step=step, seconds=seconds, **metrics)
        self._draw(step, {f"evaluation/{name}": value for name, value in numbers.items()})

    def close(self) -> None:
        """Nothing follows."""
        if self.board is not None:
            self.board.close()

    def memory_gib(self) -> float | None:
        """The most that was held so far: by tensors on a GPU, or by this process."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device)) / 2**30
        return peak_resident_gib()

    def _draw(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            if self.board is not None:
                self.board.add_scalar(name, value, step)


def tensorboard_writer(folder: Path, step: int) -> Any:
    """A TensorBoard writer that goes on after `step`; what is there of later steps is hidden."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def check_tensorboard() -> None:
    """ValueError, with the line that installs it, where TensorBoard is absent."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError("--tensorboard: the package is not installed: pip install tensorboard")


def _unfinished(file: Any) -> bool:
    """Whether the last line was cut off by a kill."""
    file.seek(-1, 2)
    last = bool(file.read(1) != b"\n")
    file.seek(0, 2)
    return last
