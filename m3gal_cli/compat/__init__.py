"""Formats of the published M3GAL code: checkpoints, pickled datasets, option names."""
