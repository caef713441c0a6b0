"""The paper's tables as runs: their rows, baselines and learning-rate sweeps."""
