from __future__ import annotations

import os
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def fake_tasks_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find `fake_tasks`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent.parent)]))
