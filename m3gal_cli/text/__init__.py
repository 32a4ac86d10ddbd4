"""Text utilities: normalisation, character n-grams, BM25, TF-IDF, document frequencies, address parsing."""
