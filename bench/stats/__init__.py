"""Statistics of seeds and of pictures: intervals, tests, power, bootstrap."""
