"""The verbs of `unept-bench`, one a file, and what they share."""
