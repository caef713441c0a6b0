"""What the values in label files stand for: a class, a pixel that is not scored, or a mistake."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unept.data.sample import IGNORE, Bytes


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """Another reading of the values a split holds, and what to do about it.

    It applies to a split all of whose values are among `values`, one of `needs` being there.
    """

    values: frozenset[int]
    needs: frozenset[int]
    what: str
    fix: str

    def fits(self, seen: frozenset[int]) -> bool:
        """Whether a split that holds the values `seen`, and no others, looks like this."""
        return bool(seen & self.needs) and seen <= self.values


class Encoding:
    """The class of each value in a data set's label files; `said` names the values in messages."""

    def __init__(self, classes: Mapping[int, int], ignored: Iterable[int], said: str, *mistakes: Mistake) -> None:
        """`classes` gives the class of a value, `ignored` are the values of unlabelled pixels; any other is wrong."""
        self.classes = dict(classes)
        self.ignored = frozenset(ignored)
        self.said = said
        self.mistakes = mistakes
        size = max((*self.classes, *self.ignored)) + 1
        self._table = np.full(size, IGNORE, np.uint8)
        for value, number in self.classes.items():
            self._table[value] = number

    def counts(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Pixels of each value, int64; as long as the values known, or as the largest value asks."""
        return np.bincount(raw.ravel(), minlength=len(self._table))

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Those of the values that stand for nothing, in order."""
        return sorted(value for value in values if value not in self.classes and value not in self.ignored)

    def decode(self, raw: npt.NDArray[Any]) -> Bytes:
        """Values (H, W) to classes, uint8 (H, W), 255 = ignore. ValueError for a value that stands for nothing."""
        unknown = self.unknown(np.flatnonzero(self.counts(raw)).tolist())
        if unknown:
            raise ValueError(f"label value {unknown[0]} is outside {self.said}")
        return self._table[raw]


def shifted(classes: int, *mistakes: Mistake, first: int = 0, ignore: int = IGNORE) -> Encoding:
    """Class 0 has the value `first`, the next ones follow; `ignore`, which is no class then, is not scored."""
    by_value = {first + number: number for number in range(classes) if first + number != ignore}
    return Encoding(by_value, [ignore], f"{first}..{first + classes - 1} (ignore is {ignore})", *mistakes)
