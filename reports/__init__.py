"""Result rows in; tables, plots and pages out. Reads a study's folder and nothing else: no model, no torch."""

from reports.study.write import read_study, report_folder, writable_folder, write_files, write_report

__all__ = ["read_study", "report_folder", "writable_folder", "write_files", "write_report"]
