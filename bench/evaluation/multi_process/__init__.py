"""Checkpoints scored on a data set image by image: by several processes, resumable, compared in pairs."""

from bench.evaluation.multi_process.request import CheckpointScores, evaluate_checkpoints, paired_comparisons

__all__ = ["CheckpointScores", "evaluate_checkpoints", "paired_comparisons"]
