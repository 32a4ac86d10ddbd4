"""Comparison of retrieval methods on the same labelled queries; ``benchmarks/results.py`` is the command line.

Data flow: folds -> methods -> result store (one JSON line per run) -> table, label curve, errors.
``methods.METHODS`` lists the methods.
"""
