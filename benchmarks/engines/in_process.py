"""Methods of the benchmark's own process: TF-IDF by scikit-learn, and BM25. Their memory is that of the index."""

from __future__ import annotations

import importlib.metadata
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
from quality.plain_methods import TFIDF_SETTINGS, Scorer, bm25, tfidf
from quality.sets import LabelledSet

from engines.engine import DEPTH, Answers, Engine, OpenEngine
from engines.measurement import rank_metrics_of
from m3gal_cli.data.queries import Query

DECIMALS = 9  # of scores: sums in another order are equal


def open_with(
    make: Callable[[Sequence[str]], Scorer], package: str
) -> Callable[[pd.DataFrame, Path], AbstractContextManager[OpenEngine]]:
    """Return the function that indexes the addresses of a table with a plain method."""

    @contextmanager
    def open_plain(pois: pd.DataFrame, folder: Path) -> Iterator[OpenEngine]:
        tracemalloc.start()
        scores = make(pois["address"].tolist())
        megabytes = tracemalloc.get_traced_memory()[0] / 1e6
        tracemalloc.stop()

        def search(query: Query) -> Answers:
            own = scores(query.text).round(DECIMALS)
            best = np.argsort(-own, kind="stable")[:DEPTH]
            return list(zip(best.tolist(), own[best].tolist(), strict=True))

        yield OpenEngine(importlib.metadata.version(package), search, lambda: megabytes)

    return open_plain


def rank_with(make: Callable[[Sequence[str]], Scorer]) -> Callable[[LabelledSet, Path], dict[str, float]]:
    """Return the function that ranks the candidates of each query with a plain method."""

    def rank_candidates(labelled: LabelledSet, folder: Path) -> dict[str, float]:
        scores = make(labelled.evaluation.texts)
        table = np.stack([scores(record.query).round(DECIMALS) for record in labelled.records])
        return rank_metrics_of(labelled.evaluation.candidate_ranks(table))

    return rank_candidates


TFIDF, BM25 = "scikit-learn TF-IDF", "BM25"
ENGINES = [
    Engine(TFIDF, TFIDF_SETTINGS, open_with(tfidf, "scikit-learn"), rank_candidates=rank_with(tfidf)),
    Engine(BM25, "character 1-2-grams, k1 1.5, b 0.75", open_with(bm25, "bm25s"), rank_candidates=rank_with(bm25)),
]
