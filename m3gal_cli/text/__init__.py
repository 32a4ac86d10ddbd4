"""Text: normalisation, character n-grams, BM25, tf-idf, document frequencies, address parsing."""
