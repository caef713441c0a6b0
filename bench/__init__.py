"""The attention-blind harness: a variant in, rows out."""
