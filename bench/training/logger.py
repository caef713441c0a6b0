"""Log of a training: lines on the screen, lines of JSON in its folder, and TensorBoard on request."""

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
from bench.units import GIB
from unept.losses.total_loss import Losses

LINE_INTERVAL_SECONDS = 10.0  # between two lines on the screen
Log = Callable[[str], None]


class TrainLogger:
    """Writes what happens in a training: to the log in its folder, the screen, and TensorBoard. Main process only.

    Lines of the log are JSON, appended and never changed: `{"event": "step", "step": 50, ...}`. After a process was
    killed, the steps since its last checkpoint come again behind a line `began`.

    Args:
        path: The log.
        steps: Number of training steps.
        batch: Images a step.
        device: Where the model is; its memory is reported.
        writer: TensorBoard's writer, from `tensorboard_writer`; None without.
    """

    def __init__(self, path: Path, *, steps: int, batch: int, device: torch.device, writer: Any = None) -> None:
        self.path, self.steps, self.batch, self.device, self.writer = path, steps, batch, device, writer
        self.started_at = self.last_printed = 0.0
        self.first_step = 0
        self.paused = 0.0  # seconds since the start that were not training

    def event(self, name: str, **facts: Any) -> None:
        """Append one line to the log."""
        text = json.dumps(json_value({"event": name, "time": utc_now(), **facts}), allow_nan=False)
        with open(self.path, "ab+") as file:
            if file.tell() and _is_unfinished(file):
                file.write(b"\n")
            file.write(f"{text}\n".encode())

    def start(self, step: int, **facts: Any) -> None:
        """Log that training starts, or continues after `step` steps."""
        self.event("began", step=step, **facts)
        self.first_step = step
        self.started_at = self.last_printed = time.monotonic()

    def log(self, line: str) -> None:
        """Print a line on the screen."""
        print(line, file=sys.stderr, flush=True)

    def step(self, step: int, losses: Losses, learning_rate: float, *, write: bool) -> None:
        """Note that `step` steps are done; print a line every LINE_INTERVAL_SECONDS and at the end.

        Args:
            step: Steps done, from 1.
            losses: Those of the last step's whole batch.
            learning_rate: That of the head.
            write: True to write the step to the log and to TensorBoard.
        """
        seconds = time.monotonic() - self.started_at - self.paused
        throughput = (step - self.first_step) * self.batch / seconds if seconds > 0 else math.inf
        memory = self.memory_gib()
        if write:
            terms = {name: term.item() for name, term in losses._asdict().items()}
            self.event("step", step=step, **terms, rate=learning_rate, images_per_second=throughput, memory_gib=memory)
            curves = {f"loss/{name}": value for name, value in terms.items()}
            self._draw(step, curves | {"rate": learning_rate, "pace": throughput})
        if time.monotonic() - self.last_printed >= LINE_INTERVAL_SECONDS or step == self.steps:
            self.last_printed = time.monotonic()
            seconds_left = (self.steps - step) * self.batch / throughput
            left = format_duration(seconds_left) if math.isfinite(throughput) else "?"
            used = f", {memory:.1f} GiB" if memory else ""
            self.log(
                f"step {step}/{self.steps}: loss {losses.total.item():.3f}, rate {learning_rate:.2g}, "
                f"{throughput:.3g} images/s{used}, {left} left"
            )

    def evaluated(self, step: int, metrics: dict[str, Any], seconds: float) -> None:
        """Log an evaluation by the whole protocol after `step` steps, which took `seconds`."""
        self.paused += seconds
        numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
        self.event("evaluated", step=step, seconds=seconds, **metrics)
        self._draw(step, {f"evaluation/{name}": value for name, value in numbers.items()})

    def close(self) -> None:
        """Close TensorBoard's file; nothing follows."""
        if self.writer is not None:
            self.writer.close()

    def memory_gib(self) -> float | None:
        """Return the peak memory so far in GiB: of tensors on a GPU, else of this process; None where unknown."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device)) / GIB
        return peak_resident_gib()

    def _draw(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            if self.writer is not None:
                self.writer.add_scalar(name, value, step)


def tensorboard_writer(folder: Path, step: int) -> Any:
    """Return a TensorBoard writer for `folder` that continues after `step`; older values of later steps are hidden."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def check_tensorboard() -> None:
    """Check that TensorBoard is installed.

    Raises:
        ValueError: With the line that installs it.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError("--tensorboard: the package is not installed: pip install tensorboard")


def _is_unfinished(file: Any) -> bool:
    """Return True if the last line was cut off by a kill."""
    file.seek(-1, 2)
    last = bool(file.read(1) != b"\n")
    file.seek(0, 2)
    return last
