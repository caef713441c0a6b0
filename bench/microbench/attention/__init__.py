"""Cores of attention, without projections, beside what one could install: times and memory, side by side in one run."""
