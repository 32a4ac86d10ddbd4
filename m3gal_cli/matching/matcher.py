"""The matcher, which answers queries from an index, and the types of its answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NotRequired, TypedDict, final

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.encoders.protocol import QueryEncoder, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.geo.filters import Box, GeoFilter
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import Searcher, SearchResult, empty_result
from m3gal_cli.matching.candidate_table import CandidateTable
from m3gal_cli.matching.candidates import DEPTHS, CandidateSearch, Depths
from m3gal_cli.rerank.reranker import Reranker
from m3gal_cli.text.ngram_frequencies import NgramFrequencies

ANSWER_KEYS = ("id", "query", "matches", "line", "error")  # of an answer and of the output for a broken query
POI_KEYS = ("poi_id", "name", "address", "lng", "lat")
MATCH_KEYS = ("rank", *POI_KEYS, "score", "distance_m")


class Match(TypedDict):
    """One POI of an answer. Further columns of the POI table follow ``score``, if they are asked for.

    With a reranker, score is the probability that the query means this POI, rather than another one or no POI of the
    table. Without one it is the first-stage score q·text + q·location, in [-2, 2]. lng and lat are degrees, WGS-84.
    distance_m is the distance from the query location in metres, if the query has one.
    """

    rank: int
    poi_id: Any
    name: NotRequired[str | None]  # if the POI table has names
    address: str
    lng: float
    lat: float
    score: float
    distance_m: NotRequired[float]


@final
class Answer(TypedDict):
    """The best matches of a query, best first; further columns of the query stand before ``matches``."""

    id: Any
    query: str
    matches: list[Match]


class Matcher:
    """Answers queries from an index: dense and sparse search, then reranking of the joined candidates.

    Args:
        index: The indexed POIs.
        encoder: Query encoder of the model that built the index.
        searcher: Dense search.
        make_reranker: Returns the reranker for the document frequencies of the index; None keeps the order of the dense
            search, and needs no sparse search.
        depths: Numbers of candidates of each search.
    """

    def __init__(
        self,
        index: Index,
        encoder: QueryEncoder,
        searcher: Searcher,
        make_reranker: Callable[[NgramFrequencies], Reranker] | None = None,
        depths: Depths = DEPTHS,
    ) -> None:
        self.index, self.encoder, self.searcher = index, encoder, searcher
        self._table = CandidateTable.of_index(index)
        self._candidates = None if make_reranker is None else CandidateSearch(index, searcher, depths)
        self._reranker = None
        if make_reranker is not None and self._candidates is not None:
            self._reranker = make_reranker(self._candidates.frequencies)

    def answer(
        self,
        queries: Sequence[Query],
        k: int,
        within_km: float | None = None,
        box: Box | None = None,
        columns: Sequence[str] = (),
        min_score: float | None = None,
    ) -> list[Answer]:
        """Return the best ``k`` POIs of each query, in the order of the queries; fewer if fewer pass the filters.

        Args:
            queries: The queries.
            k: Number of matches per query.
            within_km: Largest distance from the query location; not applied to a query without location.
            box: West, south, east, north in degrees; POIs outside are no matches.
            columns: Further columns of the POI table that the matches carry (see ``check_columns``).
            min_score: Least score of a match.
        """
        k = min(k, len(self.index))
        filters = [filter_of(q, within_km, box) for q in queries]
        vectors = self.encoder.encode_queries([q.text for q in queries])
        result = self._search(queries, vectors, k, filters if any(filters) else None)
        if min_score is not None:
            result.rows[result.scores < min_score] = -1
        pois = iter(self.index.pois_at(result.rows[result.rows >= 0], list(columns)))
        answers: list[Answer] = []
        for query, rows, scores in zip(queries, result.rows, result.scores, strict=True):
            own = [(next(pois), score) for row, score in zip(rows, scores.tolist(), strict=True) if row >= 0]
            extra = {column_name(name, ANSWER_KEYS, "query"): value for name, value in query.extra.items()}
            answers.append(
                {"id": query.id, "query": query.text, **extra, "matches": _matches(query, own)}  # type: ignore[typeddict-item]
            )
        return answers

    def check_columns(self, names: Sequence[str], option: str = "--with") -> list[str]:
        """Return the names of columns of the POI table; ``["all"]`` means all of them, unless one is called all.

        Raises:
            InputError: The table has no such column; ``option`` names the option in the error.
        """
        own = [name for name in self.index.columns if name not in POI_KEYS]
        if list(names) == ["all"] and "all" not in own:
            return own
        for name in names:
            if name not in (*own, "name"):
                known = f"Its columns are: {', '.join(own)}." if own else "It has no further columns."
                raise InputError(f"{option}: the POI table has no column {name!r}", where=self.index.path, hint=known)
        return [name for name in dict.fromkeys(names) if name != "name"]

    def _search(
        self, queries: Sequence[Query], vectors: Vectors, k: int, filters: Sequence[GeoFilter | None] | None
    ) -> SearchResult:
        """Return the best ``k`` by logits, with their probabilities; ties are in the order of the index."""
        if self._reranker is None or self._candidates is None:
            return self.searcher.search(vectors, k, filters)
        out = empty_result(len(queries), k)
        found = self._candidates.search([query.text for query in queries], vectors, filters, k)
        for i, (query, candidates) in enumerate(zip(queries, found, strict=True)):
            reranked = self._table.rerank(self._reranker, query, candidates)
            best = np.lexsort((candidates.rows, -reranked.logits))[:k]
            out.rows[i, : len(best)] = candidates.rows[best]
            out.scores[i, : len(best)] = reranked.probabilities[best]
        return out


def column_name(name: str, taken: Collection[str], prefix: str) -> str:
    """Return the name of a column in the output: ``prefix_name`` if a field of the answer has the same name."""
    return f"{prefix}_{name}" if name in taken else name


def filter_of(query: Query, within_km: float | None, box: Box | None) -> GeoFilter | None:
    """Return the geographic filter of a query; None for no filter."""
    if within_km is None or query.lng is None or query.lat is None:
        return None if box is None else GeoFilter(box)
    return GeoFilter(box, (query.lng, query.lat), 1000.0 * within_km)


def _matches(query: Query, pois: list[tuple[dict[str, Any], float]]) -> list[Match]:
    """Return POIs and their scores, best first, as the matches of an answer."""
    matches: list[Match] = []
    for rank, (poi, score) in enumerate(pois, 1):
        fields: dict[str, Any] = {"rank": rank} | {key: poi.pop(key) for key in POI_KEYS if key in poi}
        fields |= {"score": score} | {column_name(key, MATCH_KEYS, "poi"): value for key, value in poi.items()}
        matches.append(fields)  # type: ignore[arg-type]
    if query.lng is not None and query.lat is not None and matches:
        metres = haversine_m(query.lng, query.lat, [m["lng"] for m in matches], [m["lat"] for m in matches])
        for match, distance in zip(matches, metres.tolist(), strict=True):
            match["distance_m"] = round(distance, 1)
    return matches
