"""Result rows in; tables, plots and pages out. Reads a study's folder and nothing else: no model, no torch.

What needs pandas is imported when it is first asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from reports.formats.report_files import report_folder, writable_folder, write_files

if TYPE_CHECKING:
    from reports.study.write import read_study, write_report

__all__ = ["read_study", "report_folder", "writable_folder", "write_files", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in ("read_study", "write_report"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("reports.study.write"), name)
