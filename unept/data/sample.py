"""Interface of a data set: a sequence of labelled pictures with the names and colours of its classes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol
from unicodedata import category

import numpy as np
import numpy.typing as npt

IGNORE = 255
SPLITS = ("train", "val", "test")

Bytes = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture: image uint8 (H, W, 3) RGB, label uint8 (H, W) with 255 = ignore, a name unique in its split.

    `key` identifies the content among all pictures of a process; None where the data set does not tell.
    """

    image: Bytes
    label: Bytes
    name: str
    key: Hashable = None


class Dataset(Protocol):
    """One split of a data set; `dataset[i]` for 0 <= i < len(dataset) is the same sample every time."""

    @property
    def name(self) -> str:
        """Name of the data set, as tables print it."""

    @property
    def classes(self) -> tuple[str, ...]:
        """One name for each label value, in order."""

    @property
    def palette(self) -> tuple[Colour, ...]:
        """One RGB colour for each class."""

    @property
    def lookalikes(self) -> tuple[tuple[int, ...], ...]:
        """Groups of classes known to look the same from near; empty where the data set has none."""

    @property
    def ignore(self) -> int:
        """The label of pixels that are not scored, 255."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


def is_class_name(value: object) -> bool:
    """Return True if `value`, read from JSON, is text in any script that files and pages can hold in one line.

    Joiners and every kind of space are parts of words in many scripts; controls, line ends and halves of characters
    (surrogates) are of none.
    """
    return isinstance(value, str) and not any(category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in value)


def is_colour(value: object) -> bool:
    """Return True if `value`, read from JSON, is a list [red, green, blue] of whole numbers from 0 to 255."""
    return isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value)


def default_palette(classes: int) -> tuple[Colour, ...]:
    """Return a colour for each class: the bits of the class number spread over three channels."""
    colours = []
    for number in range(1, classes + 1):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= (number >> bit & 1) << (7 - bit // 3)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)
