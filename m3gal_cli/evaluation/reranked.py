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
from m3gal_cli.rerank.features import Candidates
from m3gal_cli.rerank.linear import DEPTH, LinearReranker, RerankerWeights
from m3gal_cli.text.document_frequencies import DocumentFrequencies

Matches = Sequence[tuple[NDArray[np.int64], NDArray[np.float64]]]


def reranker_of(weights: RerankerWeights, pois: pd.DataFrame) -> LinearReranker:
    """The scorer over a table, of which rows equal in text and coordinates count once, as in an index."""
    return LinearReranker(weights, DocumentFrequencies.of(pois.drop_duplicates(["address", "lng", "lat"])["address"]))


def score_matches(
    records: Sequence[Record],
    pois: pd.DataFrame,
    matches: Matches,
    firsts: NDArray[np.int64],
    is_gold: Callable[[int, NDArray[np.int64]], NDArray[np.bool_]],
    fused: NDArray[np.int64],
    reranker: LinearReranker,
    done: Callable[[int], None],
) -> tuple[RowScores, list[tuple[NDArray[np.int64], NDArray[np.float64]]]]:
    """Ranks and distances by the hybrid score, and its order of each query's candidates: gold last of those that tie.

    Who is not among the candidates keeps the place of the fused order: all candidates stand before. Rows of one place
    are one candidate, as in an index, and share its score; each of them counts for the ranks, as by the other scores.

    Args:
        matches: rows of the table and fused scores of each query's best; the first DEPTH places are its candidates.
        firsts: (N,) of each row of the table, the first one that is the same place.
        is_gold: which of some rows are gold for a query, by its number.
        fused: (Q,) ranks by the fused score.
        done: is told of queries.
    """
    ranks, metres, ordered = fused.copy(), np.zeros(len(records)), []
    lng, lat = (pois[name].to_numpy(np.float64) for name in ("lng", "lat"))
    address = pois["address"].to_numpy()
    for i, (record, (every, dense)) in enumerate(zip(records, matches, strict=True)):
        own, place = first_of_each(firsts[every])
        own = own[:DEPTH]
        best = every[own]
        found = Candidates(address[best].tolist(), dense[own], lng[best], lat[best])
        rows = every[place < DEPTH]
        scores = reranker.scores(query_of(record), found)[place[place < DEPTH]]
        gold = is_gold(i, rows)
        if gold.any():
            ranks[i] = gold_ranks(scores[None], gold[None])[0]
        order = np.lexsort((gold, -scores))
        ordered.append((rows[order], scores[order]))
        metres[i] = best_match_m(record, scores, lng[rows], lat[rows])
        done(i + 1)
    return RowScores([ranks], [metres]), ordered


def first_of_each(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each different value comes first, in that order, and which of them each value is. (n,) -> (m,), (n,)."""
    _, where, which = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(where)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return where[order], place[which]


def followed(ordered: Matches, matches: Matches) -> Matches:
    """The order of candidates and, behind it, matches that were none, as the vectors order them.

    The scores of these go on from that of the last candidate, by as much as the fused ones fall.

    Args:
        ordered: of each query, its first C rows in another order.
        matches: of each query, C or more rows.
    """
    out = []
    for (rows, scores), (all_rows, fused) in zip(ordered, matches, strict=True):
        rest = fused[len(rows) :]
        behind = scores[-1:] + (rest - fused[len(rows) - 1]) if len(rest) else rest
        out.append((np.concatenate([rows, all_rows[len(rows) :]]), np.concatenate([scores, behind])))
    return out


def query_of(record: Record) -> Query:
    """A record's query as ``predict`` would get it."""
    return Query(record.query_id, record.query, record.lng, record.lat)
