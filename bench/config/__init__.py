"""What is trained: settings, presets, axes of a grid, and the options of attention slots."""
