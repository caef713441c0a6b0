"""Setting of the training step whose memory is predicted: batch, image size, precision, optimiser."""

from __future__ import annotations

from dataclasses import dataclass

from bench.config.option_fields import check_options, option

PRECISIONS = {"fp32": "", "bf16": "bfloat16", "fp16": "float16"}  # and the torch type under autocast
OPTIMIZERS = ("adamw", "sgd")
DEVICES = ("cuda", "cpu")


@dataclass(frozen=True, kw_only=True)
class StepSetting:
    """Conditions of one training step.

    Attributes:
        batch: Number of images.
        size: Side of the square crops, in pixels.
        precision: One of PRECISIONS; autocast but for fp32.
        optimizer: One of OPTIMIZERS.
        checkpointing: Recompute each block's activations in the backward pass.
        bounded: Compute losses in bands of bounded memory.
        device: The device whose temporaries are counted: on "cuda" a dropout mask has a byte an element and fused
            products keep no weights; on "cpu" torch's own code has float masks and falls back to plain products under
            dropout.

    Raises:
        ValueError: A value is out of its range or not known.
    """

    batch: int = option(2, help="Images of a step.", metavar="N", least=1)
    size: int = option(480, help="Side of the square crop in pixels.", metavar="PIXELS", least=1)
    precision: str = option(
        "fp32",
        help="fp32, or autocast to bf16 or fp16.",
        metavar="NAME",
        choices=tuple(PRECISIONS),
        completes="choices",
    )
    optimizer: str = option("adamw", help="adamw or sgd.", metavar="NAME", choices=OPTIMIZERS, completes="choices")
    checkpointing: bool = option(False, help="Recompute each block's activations.")
    bounded: bool = False
    device: str = "cuda"

    def __post_init__(self) -> None:
        check_options(self)
        if self.device not in DEVICES:
            raise ValueError(f"--device {self.device}: expected one of {', '.join(DEVICES)}")
