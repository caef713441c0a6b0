"""Checkpoints scored on a data set picture by picture: by several processes, resumable, compared in pairs."""

from bench.scoring.request import Request, Scored, comparisons, evaluate, is_first

__all__ = ["Request", "Scored", "comparisons", "evaluate", "is_first"]
