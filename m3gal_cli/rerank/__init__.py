"""Reorder the candidates of a query: features, the linear reranker and its fit."""
