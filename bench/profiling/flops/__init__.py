"""Multiply-adds of a network, counted by operator and by module."""
