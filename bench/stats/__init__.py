"""Statistics over seeds and over images: intervals, tests, power, bootstrap."""
