"""Ranks, metrics and the two evaluations."""
