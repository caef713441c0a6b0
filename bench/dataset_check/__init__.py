"""Check of a data set on disk: every file is read, and every finding says what to do about it."""

from bench.dataset_check.findings import Finding
from bench.dataset_check.run import MAX_JOBS, DatasetCheck, check_dataset

__all__ = ["MAX_JOBS", "DatasetCheck", "Finding", "check_dataset"]
