"""One kept page of each kind of report; `UPDATE_GOLDEN=1 pytest tests/reports` writes them anew when that is wanted."""

from __future__ import annotations

import os

from locations import ROOT

FOLDER = ROOT / "tests" / "reports" / "golden"


def assert_golden(name: str, page: str) -> None:
    """The page is the one kept under this name; the first difference is told."""
    path = FOLDER / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(page, encoding="utf-8")
    kept = path.read_text(encoding="utf-8").splitlines()
    assert page.splitlines() == kept, f"{path}: another page; if that is wanted: UPDATE_GOLDEN=1 pytest tests/reports"
