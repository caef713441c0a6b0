"""The compiled attention kernel against what computes the same: times, memory, what the machine allows."""
