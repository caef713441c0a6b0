"""Result rows: their form, their keys, the store that keeps them, and their CSV files."""
