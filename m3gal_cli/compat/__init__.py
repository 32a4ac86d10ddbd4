"""Formats of the published M3GAL code: checkpoint files, pickled datasets, option names."""
