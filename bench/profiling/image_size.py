"""The size of a picture, as it is typed."""

from __future__ import annotations

import re

IMAGE_SIDE_RANGE = (16, 16384)  # pixels; least and most of an image's side
ImageSize = tuple[int, int]


def parse_size(text: str) -> ImageSize:
    """Return the height and width in pixels that `480` or `1024x2048` (height x width) means.

    Raises:
        ValueError: The text has another form, or a side lies outside IMAGE_SIDE_RANGE.
    """
    match = re.fullmatch(r"(\d{1,9})(?:x(\d{1,9}))?", text)
    if not match:
        raise ValueError(f"--size {text}: expected a side in pixels, as in 480, or HEIGHTxWIDTH, as in 1024x2048")
    size = int(match[1]), int(match[2] or match[1])
    if not (IMAGE_SIDE_RANGE[0] <= min(size) and max(size) <= IMAGE_SIDE_RANGE[1]):
        raise ValueError(f"--size {text}: expected {IMAGE_SIDE_RANGE[0]} to {IMAGE_SIDE_RANGE[1]} pixels a side")
    return size
