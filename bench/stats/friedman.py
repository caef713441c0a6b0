"""Friedman's test: do any of several treatments differ, each measured once in every block?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 20_000
BLOCK_VALUES = 2_000_000  # permuted at a time
MOST_VALUES = 100_000_000  # permuted in all; with so many treatments the chi-squared limit holds


@dataclass(frozen=True, kw_only=True)
class FriedmanResult:
    """Result of Friedman's test.

    Args:
        p: By permutation within blocks, which keeps its level with few blocks; of very many treatments by the limit.
        p_chi_squared: By the chi-squared limit, which rejects too seldom with few blocks (3 % at 5 %, six treatments in
            five blocks).
        blocks: Number of blocks.
        treatments: Number of treatments.
    """

    p: float
    p_chi_squared: float
    blocks: int
    treatments: int


def friedman_test(blocks: Sequence[Sequence[float]], *, resamples: int = RESAMPLES, seed: int = 0) -> FriedmanResult:
    """Test whether any treatment differs.

    Args:
        blocks: A sequence for each block, with a value for each treatment in the same order.
        resamples: Number of random permutations within blocks.
        seed: Their random seed.

    Raises:
        ValueError: Fewer than two blocks or three treatments.
    """
    values_BT = np.array(blocks, dtype=np.float64)
    if values_BT.ndim != 2 or values_BT.shape[0] < 2 or values_BT.shape[1] < 3:
        raise ValueError(f"blocks of shape {values_BT.shape}: expected two blocks or more of three values or more")
    ranks_BT = stats.rankdata(values_BT, axis=1)
    if (ranks_BT == ranks_BT[:, :1]).all():
        return FriedmanResult(p=1.0, p_chi_squared=1.0, blocks=len(values_BT), treatments=values_BT.shape[1])
    observed = (ranks_BT.sum(0) ** 2).sum()
    limit = float(stats.friedmanchisquare(*values_BT.T).pvalue)
    chance = np.random.default_rng(seed)
    at_once = max(1, BLOCK_VALUES // ranks_BT.size)
    reached = 0
    for start in range(0, resamples if resamples * ranks_BT.size <= MOST_VALUES else 0, at_once):
        count = min(at_once, resamples - start)
        permuted_RBT = chance.permuted(np.broadcast_to(ranks_BT, (count, *ranks_BT.shape)), axis=2)
        reached += int(((permuted_RBT.sum(1) ** 2).sum(1) >= observed - 1e-9).sum())
    return FriedmanResult(
        p=(reached + 1) / (resamples + 1) if resamples * ranks_BT.size <= MOST_VALUES else limit,
        p_chi_squared=limit,
        blocks=len(values_BT),
        treatments=values_BT.shape[1],
    )
