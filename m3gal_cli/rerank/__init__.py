"""Rerankers: features of candidates, the shortlist, and the network that scores it."""
