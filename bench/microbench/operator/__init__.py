"""The compiled deformable-attention kernel against what computes the same: times, memory, what the machine allows."""
