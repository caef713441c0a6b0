"""Rows to data frames, comparisons and verdicts."""
