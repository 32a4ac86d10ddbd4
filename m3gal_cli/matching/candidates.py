"""The candidates of a query: the best rows of the dense search, joined with the best rows of the sparse search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.document_frequencies import open_frequencies
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import Searcher, inner_products
from m3gal_cli.index.sparse import SparseSearcher
from m3gal_cli.index.sparse_table import SparseTable

Rows = NDArray[np.int64]
Scores = NDArray[np.floating]


class Depths(NamedTuple):
    """Numbers of rows that each search finds for a query; together at most 1000."""

    dense: int = 700
    sparse: int = 300


DEPTHS = Depths()


class CandidateRows(NamedTuple):
    """The candidates of a query by descending dense score; equal scores are ordered by row. Shape: (n,) each."""

    rows: Rows
    scores: Scores  # dense scores, q·v
    sparse_scores: Scores

    @classmethod
    def ordered(cls, rows: Rows, scores: Scores, sparse_scores: Scores) -> CandidateRows:
        """Order distinct rows and their scores. Shape: (n,) each."""
        return cls(rows, scores, sparse_scores).take(np.lexsort((rows, -scores)))

    def take(self, positions: Rows) -> CandidateRows:
        """Return some of the candidates. Shape: (m,)."""
        return CandidateRows(self.rows[positions], self.scores[positions], self.sparse_scores[positions])


def table_candidates(
    table: SparseTable, vectors: Vectors, text: str, vector: Vectors, depths: Depths = DEPTHS
) -> CandidateRows:
    """Return the candidates of a query in a table in memory.

    Args:
        table: The table.
        vectors: Vectors of its rows. Shape: (N, D).
        text: The query.
        vector: Vector of the query. Shape: (D,).
        depths: Numbers of rows of each search.
    """
    scores = inner_products(vectors, vector)
    best = np.argsort(-scores, kind="stable")[: depths.dense]
    sparse = table.searcher.search([text], depths.sparse).rows[0]
    rows = np.union1d(best, sparse[sparse >= 0])
    return CandidateRows.ordered(rows, scores[rows], table.searcher.scores(table.searcher.query(text), rows))


class CandidateSearch:
    """The search for candidates in an index.

    Args:
        index: The index.
        searcher: Dense search.
        depths: Numbers of rows of each search.
    """

    def __init__(self, index: Index, searcher: Searcher, depths: Depths = DEPTHS) -> None:
        self.index, self.searcher, self.depths = index, searcher, depths
        self.frequencies = open_frequencies(index)
        self.sparse = SparseSearcher(index.segments, self.frequencies)

    def search(
        self, texts: Sequence[str], vectors: Vectors, filters: Sequence[GeoFilter | None] | None, least: int = 0
    ) -> list[CandidateRows]:
        """Return the candidates of each query.

        Args:
            texts: The queries.
            vectors: Their vectors. Shape: (Q, D).
            filters: A geographic filter of each query, or None.
            least: Smallest depth of the dense search.
        """
        count = len(self.index)
        dense = self.searcher.search(vectors, min(max(self.depths.dense, least), count), filters)
        sparse = self.sparse.search(texts, min(self.depths.sparse, count), filters)
        out = []
        for i, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
            own, found = dense.rows[i] >= 0, sparse.rows[i] >= 0
            further = np.setdiff1d(sparse.rows[i, found], dense.rows[i, own])
            rows = np.concatenate([dense.rows[i, own], further])
            scores = np.concatenate([dense.scores[i, own], inner_products(self.index.vectors(further), vector)])
            out.append(CandidateRows.ordered(rows, scores, self.sparse.scores(self.sparse.query(text), rows)))
        return out
