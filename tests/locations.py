"""Where tests find what they read: the repository, the golden outputs of the authors' code, and shared data."""

from __future__ import annotations

import os
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
GOLDEN = TESTS / "golden"
SHARED = ROOT.parent / "shared"
SHARED_DATA = Path(os.environ.get("UNEPT_SHARED_DATA") or SHARED / "data")
