"""Scores of a model on a split, predictions, and conversion of the released checkpoints."""
