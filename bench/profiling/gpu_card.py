"""What is assumed of a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config.fields import LARGEST_INTEGER

SECONDS = 3600.0  # of an hour


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is assumed of a GPU: its printed peak in TFLOP/s, and the share of it that training sustains."""

    name: str = "NVIDIA A100, float32 without tensor cores"
    peak: float = 19.5
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.peak <= LARGEST_INTEGER:
            raise ValueError(f"--tflops {self.peak}: expected more than 0, the card's printed peak in TFLOP/s")
        if not 0 < self.share <= 1:
            raise ValueError(f"--utilisation {self.share}: expected more than 0 and at most 1, a share of the peak")

    def hours(self, tera: float) -> float:
        """Return the hours that so many 1e12 floating-point operations take."""
        return tera / (self.peak * self.share) / SECONDS
