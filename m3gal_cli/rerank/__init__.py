"""Rerankers: features of candidates, the linear reranker and the fit of its weights."""
