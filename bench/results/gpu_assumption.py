"""The assumed speed of a GPU; no torch, so that reports can read it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config.fields import LARGEST_INTEGER

SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class GpuAssumption:
    """Assumed speed of a GPU.

    Attributes:
        name: Shown beside the hours.
        peak: Printed peak in TFLOP/s.
        share: Share of the peak that training sustains, above 0 and at most 1.

    Raises:
        ValueError: A number is out of its range.
    """

    name: str = "NVIDIA A100, float32 without tensor cores"
    peak: float = 19.5
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.peak <= LARGEST_INTEGER:
            raise ValueError(f"--tflops {self.peak}: expected more than 0, the card's printed peak in TFLOP/s")
        if not 0 < self.share <= 1:
            raise ValueError(f"--utilisation {self.share}: expected more than 0 and at most 1, a share of the peak")

    def hours(self, tera: float) -> float:
        """Return the hours for `tera` times 1e12 floating-point operations."""
        return tera / (self.peak * self.share) / SECONDS_PER_HOUR
