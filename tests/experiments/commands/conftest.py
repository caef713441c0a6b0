"""Every test of a verb has an empty working directory, and workers that find the fake tasks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from locations import ROOT

FAKES = ROOT / "tests" / "bench"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKES), str(ROOT)]))
    monkeypatch.setenv("FAKE_LEDGER", str(tmp_path.with_name(f"{tmp_path.name}-ledger")))
    return tmp_path
