"""The options of a benchmark of the attention operator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench import environment
from bench.config.option_fields import option
from bench.microbench.operator.cases import CASES, QUICK_CASES, select_cases


def parse_names(text: str) -> tuple[str, ...]:
    """Return the names in `small,r50-encoder`; () for the empty text."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


@dataclass(frozen=True, kw_only=True)
class OperatorBenchRequest:
    """Options of the measurement and the folder of its report. Raises ValueError, in one line, for an invalid value."""

    out: Path = option(
        Path("study/kernels"), help="Folder of the report.", metavar="FOLDER", completes="files", writes="folder"
    )
    threads: int = option(2, help="Threads of every implementation.", metavar="N")
    repeats: int = option(7, help="Rounds, at least.", metavar="N")
    shapes: tuple[str, ...] = option(
        (),
        help="Only these shapes, e.g. small,r50-encoder.",
        metavar="NAMES",
        default_text="all",
        parse=parse_names,
    )
    quick: bool = option(False, help="A tiny shape and two rounds, to see that it works.")
    command: str = ""

    def __post_init__(self) -> None:
        environment.check_timing(threads=self.threads, repeats=self.repeats)
        select_cases(self.shapes, QUICK_CASES if self.quick else CASES)
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out}: there is a file of that name")
