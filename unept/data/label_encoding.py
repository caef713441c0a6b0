"""Meaning of the values in label files: a class, an ignored pixel, or a known mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unept.data.sample import IGNORE, Bytes


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """A known wrong encoding of a data set, and its correction.

    Attributes:
        values: All values of a split with this mistake are among these.
        needs: At least one of these values occurs.
        what: Description of the mistake.
        fix: What to do about it.
    """

    values: frozenset[int]
    needs: frozenset[int]
    what: str
    fix: str

    def fits(self, seen: frozenset[int]) -> bool:
        """Return True if a split with exactly the values `seen` looks like this mistake."""
        return bool(seen & self.needs) and seen <= self.values


class Encoding:
    """Class of each value in a data set's label files."""

    def __init__(self, classes: Mapping[int, int], ignored: Iterable[int], said: str, *mistakes: Mistake) -> None:
        """Build the table of values.

        Args:
            classes: Class of each value.
            ignored: Values of unlabelled pixels; any other value is an error.
            said: Description of the valid values, for messages.
            mistakes: Known wrong encodings.
        """
        self.classes = dict(classes)
        self.ignored = frozenset(ignored)
        self.said = said
        self.mistakes = mistakes
        size = max((*self.classes, *self.ignored)) + 1
        self._table = np.full(size, IGNORE, np.uint8)
        for value, number in self.classes.items():
            self._table[value] = number

    def counts(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Count the pixels of each value, int64; as long as the known values, or as the largest value requires."""
        return np.bincount(raw.ravel(), minlength=len(self._table))

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Return the values that have no meaning, sorted."""
        return sorted(value for value in values if value not in self.classes and value not in self.ignored)

    def decode(self, raw: npt.NDArray[Any]) -> Bytes:
        """Convert values (H, W) to classes, uint8 (H, W), 255 = ignore. ValueError for a value without a meaning."""
        unknown = self.unknown(np.flatnonzero(self.counts(raw)).tolist())
        if unknown:
            raise ValueError(f"label value {unknown[0]} is outside {self.said}")
        return self._table[raw]


def shifted(classes: int, *mistakes: Mistake, first: int = 0, ignore: int = IGNORE) -> Encoding:
    """Return an encoding in which class 0 has the value `first` and the others follow.

    Args:
        classes: Number of classes.
        mistakes: Known wrong encodings.
        first: Value of class 0.
        ignore: Value of pixels that are not scored; no class then.
    """
    by_value = {first + number: number for number in range(classes) if first + number != ignore}
    return Encoding(by_value, [ignore], f"{first}..{first + classes - 1} (ignore is {ignore})", *mistakes)
