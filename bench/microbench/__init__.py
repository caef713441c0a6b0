"""Timings of single operators and attention layers, implementations in turns."""
