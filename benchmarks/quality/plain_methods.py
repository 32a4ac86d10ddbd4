"""Methods of a few lines: TF-IDF by scikit-learn, and BM25."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from quality.bm25 import Bm25Index

TFIDF_SETTINGS = "TfidfVectorizer(analyzer='char_wb', ngram_range=(2, 4)), cosine"
Scorer = Callable[[str], NDArray[np.float64]]  # from a query to the score of each text


def tfidf(texts: Sequence[str]) -> Scorer:
    """Return the scorer of ``TFIDF_SETTINGS`` over the texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4))
    by_ngram = vectorizer.fit_transform(texts).T.tocsr()
    return lambda query: (vectorizer.transform([query]) @ by_ngram).toarray()[0]


def bm25(texts: Sequence[str]) -> Scorer:
    """Return the scorer of the project's BM25 over the texts."""
    index = Bm25Index(texts)
    return lambda query: index.scores(query).astype(np.float64)
