"""Queries in, places out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, NotRequired, TypedDict, final

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.encoders.encoder import QueryEncoder
from m3gal_cli.geo.coordinates import haversine_m
from m3gal_cli.geo.filters import Area, Box
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import Found, Searcher, nothing
from m3gal_cli.rerank.features import Candidates
from m3gal_cli.rerank.linear import LinearReranker, probabilities


class Match(TypedDict):
    """A place, and how well it fits.

    score is q·k + q·g' in [-2, 2]; with a hybrid score, the probability that it is meant, among the candidates looked
    at. lng and lat are degrees, WGS-84; distance_m, metres from where the query was typed, is there if that is known.
    """

    rank: int
    poi_id: Any
    address: str
    lng: float
    lat: float
    score: float
    distance_m: NotRequired[float]


@final
class Answer(TypedDict):
    """The best matches of a query, best first."""

    id: Any
    query: str
    matches: list[Match]


class Matcher:
    """Answers queries from an index.

    Args:
        index: the places.
        embedder: the model that the index was made with; of it, queries need the query encoder alone.
        searcher: the way to search.
        hybrid: scores the best of a search again; None: the search's own order stands.
    """

    def __init__(
        self, index: Index, encoder: QueryEncoder, searcher: Searcher, reranker: LinearReranker | None = None
    ) -> None:
        self.index, self.encoder, self.searcher, self.reranker = index, encoder, searcher, reranker

    def answer(
        self, queries: Sequence[Query], k: int, within_km: float | None = None, box: Box | None = None
    ) -> list[Answer]:
        """The best ``k`` places of each query, in the order of the queries; fewer where an area holds fewer.

        Args:
            within_km: leave out what lies farther from where a query was typed; no bound for a query that does not say.
            box: leave out what lies outside: west, south, east, north, degrees.
        """
        areas = [area_of(q, within_km, box) for q in queries]
        vectors = self.encoder.queries([q.text for q in queries])
        depth = max(k, self.reranker.depth) if self.reranker is not None else k
        found = self.searcher.search(vectors, depth, areas if any(areas) else None)
        if self.reranker is not None:
            found = self._again(self.reranker, queries, found, k)
        places = iter(self.index.places(found.rows[found.rows >= 0]))
        answers: list[Answer] = []
        for query, rows, scores in zip(queries, found.rows, found.scores, strict=True):
            own = [(next(places), score) for row, score in zip(rows, scores.tolist(), strict=True) if row >= 0]
            answers.append({"id": query.id, "query": query.text, "matches": _matches(query, own)})
        return answers

    def _again(self, reranker: LinearReranker, queries: Sequence[Query], found: Found, k: int) -> Found:
        """The best ``k`` by the hybrid score, with their probabilities; equal ones in the order of the index."""
        out = nothing(len(queries), k)
        there = found.rows >= 0
        texts = iter(self.index.addresses(found.rows[there]))
        for i, query in enumerate(queries):
            rows, dense = found.rows[i, there[i]], found.scores[i, there[i]]
            own = Candidates(list(islice(texts, len(rows))), dense, self.index.lng[rows], self.index.lat[rows])
            logits = reranker.scores(query, own)
            best = np.lexsort((rows, -logits))[:k]
            out.rows[i, : len(best)] = rows[best]
            out.scores[i, : len(best)] = probabilities(logits)[best]
        return out


def _matches(query: Query, found: list[tuple[dict[str, Any], float]]) -> list[Match]:
    """Places with their scores, best first, as an answer gives them."""
    matches: list[Match] = [
        {"rank": rank, **place, "score": score}  # type: ignore[typeddict-item]
        for rank, (place, score) in enumerate(found, 1)
    ]
    if query.lng is not None and query.lat is not None and matches:
        metres = haversine_m(query.lng, query.lat, [m["lng"] for m in matches], [m["lat"] for m in matches])
        for match, distance in zip(matches, metres.tolist(), strict=True):
            match["distance_m"] = round(distance, 1)
    return matches


def area_of(query: Query, within_km: float | None, box: Box | None) -> Area | None:
    """Where the matches of a query may lie; None for anywhere."""
    if within_km is None or query.lng is None or query.lat is None:
        return None if box is None else Area(box)
    return Area(box, (query.lng, query.lat), 1000.0 * within_km)
