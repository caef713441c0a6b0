from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench import user_code


@pytest.fixture(autouse=True, scope="session")
def users_code_here() -> Iterator[None]:
    """A user's module is imported into the process of the test: a process for each would take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(user_code.VARIABLE, "1")
        yield


@pytest.fixture
def compiler() -> None:
    """Skips where the kernels cannot be built."""
    from unept.ops import cpu_build

    problem = cpu_build.problem()
    if problem:
        pytest.skip(problem)
