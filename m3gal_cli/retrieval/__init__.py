"""Embedding in bulk, search, the lexical score."""
