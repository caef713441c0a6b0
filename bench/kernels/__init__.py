"""The compiled attention kernel against everything that computes the same: times, memory, and what the machine allows."""
