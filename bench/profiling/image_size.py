"""The size of a picture, as it is typed."""

from __future__ import annotations

import re

SIDES = (16, 16384)  # pixels; least and most of an image's side
Size = tuple[int, int]


def parse_size(text: str) -> Size:
    """Return height and width in pixels of `480` or `1024x2048` (height x width). Raises ValueError."""
    found = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text)
    if not found:
        raise ValueError(f"--size {text}: expected a side in pixels, as in 480, or HEIGHTxWIDTH, as in 1024x2048")
    size = int(found[1]), int(found[2] or found[1])
    if not (SIDES[0] <= min(size) and max(size) <= SIDES[1]):
        raise ValueError(f"--size {text}: expected {SIDES[0]} to {SIDES[1]} pixels a side")
    return size
