"""Checkpoints scored on a data set image by image: by several processes, resumable, compared in pairs."""

from bench.evaluation.multi_process.request import CheckpointScores, Request, evaluate_checkpoints, paired_comparisons

__all__ = ["CheckpointScores", "Request", "evaluate_checkpoints", "paired_comparisons"]
