"""Attention cores and layers that are compared and measured."""
