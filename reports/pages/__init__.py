"""Pages that are not a study's: one command's records each."""
