from __future__ import annotations

import pytest


@pytest.fixture
def compiler() -> None:
    """Skips where the kernels cannot be built."""
    from unept.ops import build

    problem = build.problem()
    if problem:
        pytest.skip(problem)
