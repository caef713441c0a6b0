"""Whether a data set is what it should be: every file read, every finding told with what to do about it."""

from bench.dataset_check.findings import Finding
from bench.dataset_check.run import MOST_JOBS, Verification, verify

__all__ = ["MOST_JOBS", "Finding", "Verification", "verify"]
