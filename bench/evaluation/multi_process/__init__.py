"""Checkpoints scored on a data set picture by picture: by several processes, resumable, compared in pairs."""

from bench.evaluation.multi_process.request import Request, Scored, comparisons, evaluate

__all__ = ["Request", "Scored", "comparisons", "evaluate"]
