"""The report of a study, section by section."""
