"""Evaluation: ranks, metrics, and the two evaluations over a whole table and over candidate sets."""
