"""Options of a timed training step, shared by the command line and the protocol in Python. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config.option_fields import option


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """Images, repetitions and threads of a timed step; 0 stands for a default of the preset or the machine."""

    images: int = option(
        0, help="Images in a batch.", metavar="N", default_text="as the preset's, one of 480 pixels", least=0
    )
    rounds: int = option(5, help="Repetitions, after one that warms up.", metavar="N", least=1)
    threads: int = option(0, help="Threads.", metavar="N", default_text="every processor", least=0)
