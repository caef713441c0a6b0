"""Attention cores, without projections, of ours and of other packages: times and memory, side by side in one run."""
