"""The hybrid row of an evaluation: the best candidates of each query by their vectors, scored again by all evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.evaluation.result import RowScores, best_match_m
from m3gal_cli.retrieval.evidence import Candidates
from m3gal_cli.retrieval.hybrid import Hybrid, Weights
from m3gal_cli.retrieval.lexicon import Lexicon

Matches = Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]


def hybrid_of(weights: Weights, pois: pd.DataFrame) -> Hybrid:
    """The scorer over a table, of which rows equal in text and coordinates count once, as in an index."""
    return Hybrid(weights, Lexicon.of(pois.drop_duplicates(["address", "lng", "lat"])["address"]))


def score_matches(
    records: Sequence[Record],
    pois: pd.DataFrame,
    matches: Matches,
    is_gold: Callable[[int, NDArray[np.int64]], NDArray[np.bool_]],
    fused: NDArray[np.int64],
    hybrid: Hybrid,
    done: Callable[[int], None],
) -> tuple[RowScores, NDArray[np.int64]]:
    """Ranks and distances by the hybrid score, and the row that it puts first, of rows that tie one that is not gold.

    Who is not among the candidates keeps the place of the fused order: all candidates stand before.

    Args:
        matches: rows of the table and fused scores of each query's candidates.
        is_gold: which of some rows are gold for a query, by its number.
        fused: (Q,) ranks by the fused score.
        done: is told of queries.
    """
    ranks, metres, first = fused.copy(), np.zeros(len(records)), np.zeros(len(records), np.int64)
    lng, lat = (pois[name].to_numpy(np.float64) for name in ("lng", "lat"))
    address = pois["address"].to_numpy()
    for i, (record, (rows, dense)) in enumerate(zip(records, matches, strict=True)):
        found = Candidates(address[rows].tolist(), dense, lng[rows], lat[rows])
        scores = hybrid.scores(query_of(record), found)
        gold = is_gold(i, rows)
        if gold.any():
            ranks[i] = gold_ranks(scores[None], gold[None])[0]
        first[i] = rows[np.lexsort((gold, -scores))[0]]
        metres[i] = best_match_m(record, scores, found.lng, found.lat)
        done(i + 1)
    return RowScores([ranks], [metres]), first


def query_of(record: Record) -> Query:
    """A record's query as ``predict`` would get it."""
    return Query(record.query_id, record.query, record.lng, record.lat)
