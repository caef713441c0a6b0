"""Mean and standard deviation that images are normalised by: ImageNet's."""

from __future__ import annotations

MEAN = (123.675, 116.28, 103.53)  # RGB, in grey levels
STD = (58.395, 57.12, 57.375)
