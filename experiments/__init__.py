"""The paper as data and as runs."""
