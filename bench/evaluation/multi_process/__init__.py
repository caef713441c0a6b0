"""Checkpoints scored on a data set picture by picture: by several processes, resumable, compared in pairs."""

from bench.evaluation.multi_process.request import Scored, comparisons, evaluate, is_first

__all__ = ["Scored", "comparisons", "evaluate", "is_first"]
