"""Result rows in; tables, plots and pages out. Reads a study's folder and nothing else: no model, no torch."""

from reports.write import write_report

__all__ = ["write_report"]
