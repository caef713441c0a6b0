"""Cache of arrays with a limit in bytes; the least recently used entry is dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

Arrays = TypeVar("Arrays", bound=tuple[npt.NDArray[Any], ...])


class LRUCache(Generic[Arrays]):
    """Tuples of arrays by key. They are shared, so they are made read-only."""

    def __init__(self, limit: int) -> None:
        """Set the limit in bytes of arrays; a single entry is kept even if it is larger."""
        self.limit = limit
        self.held = 0
        self._entries: OrderedDict[Hashable, Arrays] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, make: Callable[[], Arrays]) -> Arrays:
        """Return the entry of `key`, computed by `make` if it is missing."""
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        made = make()
        for array in made:
            array.setflags(write=False)
        self._entries[key] = made
        self.held += _bytes(made)
        while self.held > self.limit and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self.held -= _bytes(dropped)
        return made


def _bytes(arrays: tuple[npt.NDArray[Any], ...]) -> int:
    return sum(int(np.asarray(array).nbytes) for array in arrays)
