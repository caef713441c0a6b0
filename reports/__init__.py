"""Result rows in; tables, plots and pages out. Reads a study's folder and nothing else: no model, no torch."""

from reports.study.write import read_study, writable_folder, write_report, write_files

__all__ = ["read_study", "writable_folder", "write_report", "write_files"]
