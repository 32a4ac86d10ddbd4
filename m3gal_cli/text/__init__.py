"""Text: normalisation, character n-grams, tf-idf, document frequencies, address parsing."""
