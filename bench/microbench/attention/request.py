"""The options of a benchmark of attention cores."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import environment
from bench.config.option_fields import option

if TYPE_CHECKING:
    from bench.microbench.attention.implementations import Comparison, MapSize

MALLOCS = ("tuned", "default")


@dataclass(frozen=True, kw_only=True)
class AttentionBenchOptions:
    """Options of the measurement and the folder of its report. Raises ValueError, in one line, for an invalid value."""

    only: tuple[str, ...] = option(
        (), help="Only this comparison; may be repeated.", metavar="NAME", default_text="all"
    )
    out: Path = option(
        Path("study/attention"), help="Folder of the report.", metavar="FOLDER", completes="files", writes="folder"
    )
    threads: int = option(2, help="Threads of every implementation.", metavar="N")
    repeats: int = option(5, help="Rounds, at least.", metavar="N")
    malloc: str = option(
        "tuned",
        help="malloc of the timed processes: tuned or default.",
        metavar="NAME",
        choices=MALLOCS,
        completes="choices",
    )
    quick: bool = option(False, help="A small size and two rounds, to see that it works.")

    def __post_init__(self) -> None:
        environment.check_timing(threads=self.threads, repeats=self.repeats)
        if self.malloc not in MALLOCS:
            raise ValueError(f"--malloc {self.malloc}: expected tuned or default")
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"--out {self.out}: there is a file of that name")


@dataclass(frozen=True, kw_only=True)
class AttentionBenchRequest(AttentionBenchOptions):
    """The options and the comparisons to choose from; `comparisons` is the function of them, as `module:function`."""

    comparisons: str
    known: tuple[Comparison, ...]
    command: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        names = [comparison.name for comparison in self.known]
        for name in self.only:
            if name not in names:
                raise ValueError(f"--only {name}: there are {', '.join(names)}")

    @property
    def names(self) -> list[str]:
        """Names of the comparisons to make."""
        return [comparison.name for comparison in self.known if comparison.name in self.only or not self.only]

    def spec(self, kind: str, size: MapSize) -> dict[str, Any]:
        """Return what a process is to do, but for the names of the comparisons."""
        return {
            "comparisons": self.comparisons,
            "size": asdict(size),
            "kind": kind,
            "malloc": self.malloc if kind == "time" else "counted",
            "threads": self.threads,
            "repeats": self.repeats,
        }
