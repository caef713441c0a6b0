from __future__ import annotations

import pytest


@pytest.fixture
def compiler() -> None:
    """Skips where the kernels cannot be built."""
    from unept.ops import cpu_build

    problem = cpu_build.problem()
    if problem:
        pytest.skip(problem)
