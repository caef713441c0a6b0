"""Results of a study: its folder of rows, the form of a row, its key, and CSV files."""
