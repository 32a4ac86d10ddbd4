"""What a user could take instead, and what this project gives, on the same real queries: ``benchmarks/results.py``.

folds -> methods -> store (a JSON line a run) -> table, curve, errors. The list of methods is ``methods.METHODS``.
"""
