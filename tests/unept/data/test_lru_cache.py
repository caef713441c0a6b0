import numpy as np
import pytest

from unept.data.lru_cache import LRUCache


def test_it_makes_once_keeps_read_only_and_drops_what_was_asked_for_longest_ago():
    made = []

    def entry(key):
        def make():
            made.append(key)
            return (np.full(10, key, np.uint8),)

        return make

    kept = LRUCache(20)
    for key in (0, 1, 0, 2, 0, 1):
        (array,) = kept.get(key, entry(key))
        assert (array == key).all()
    assert made == [0, 1, 2, 1]  # 2 took the place of 1, then 1 that of 2
    assert (len(kept), kept.held) == (2, 20)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5


def test_a_single_entry_is_kept_however_large():
    kept = LRUCache(1)
    assert kept.get("a", lambda: (np.zeros(100),)) is kept.get("a", lambda: (np.ones(100),))
    kept.get("b", lambda: (np.zeros(100),))
    assert (len(kept), kept.held) == (1, 800)
