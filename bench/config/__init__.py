"""Configuration of a training: settings, presets, grid axes, and the options of attention slots."""
