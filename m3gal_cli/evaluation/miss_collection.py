"""Collection of the misses of ranked queries, with the features that decided."""

from __future__ import annotations

import numpy as np

from m3gal_cli.data.duplicates import first_occurrences
from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.misses import NOT_FOUND, Answer, FeatureValues, Miss, miss_kind
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.table_ranker import RankedQueries, TableRanker
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.rerank.features import FEATURE_NAMES

ANSWERS = 5  # first answers of a miss


def collect_misses(table: TableRanker, ranked: RankedQueries) -> list[Miss]:
    """Return the queries whose gold does not have rank 1 by the score that orders answers, in their order.

    Without a reranker, ``ranked`` must hold at least ``ANSWERS`` matches per query.
    """
    ranks = ranked.results[ranked.answer_score].ranks
    collection = _Collection(table, ranked)
    return [collection.miss(i, int(ranks[i])) for i in np.flatnonzero(ranks != 1).tolist()]


class _Collection:
    """The answers to ranked queries, as POIs: of duplicates the first."""

    def __init__(self, table: TableRanker, ranked: RankedQueries) -> None:
        self._table, self._ranked, pois = table, ranked, table.pois
        self._ids = pois.get("poi_id")
        gold = ranked.truth.gold
        self._gold_bounds = np.searchsorted(gold.query, np.arange(len(ranked.records) + 1))

    def miss(self, i: int, rank: int) -> Miss:
        """Return the miss of query ``i``, whose gold has this rank."""
        record, reranked = self._ranked.records[i], self._ranked.reranked
        probabilities = self._probabilities(i)
        gold_rows = self._gold_rows(i)
        gold_row = next((row for row in probabilities if row in gold_rows), next(iter(gold_rows), None))
        gold = self._gold(record) if gold_row is None else self._answer(gold_row, gold_rows, probabilities)
        answers = [self._answer(row, gold_rows, probabilities) for row in list(probabilities)[:ANSWERS]]
        metres, kind = None, NOT_FOUND
        if answers:
            metres = float(haversine_m(answers[0].lng, answers[0].lat, gold.lng, gold.lat))
            if gold_row is not None and (reranked is None or gold_row in probabilities):
                kind = miss_kind(record.query, gold.address, answers[0].address, metres)
        features = self._features(i, gold_row, next(iter(probabilities))) if probabilities else []
        no_match = None if reranked is None else max(0.0, 1.0 - sum(chance or 0.0 for chance in probabilities.values()))
        shown = None if rank == MISS else rank
        asked = record.query, record.query_id, record.lng, record.lat
        return Miss(*asked, kind, shown, metres, gold, answers, no_match, features)

    def _probabilities(self, i: int) -> dict[int, float | None]:
        """Return the probabilities of the ranked POIs of a query by row, best first; None without a reranker."""
        reranked = self._ranked.reranked
        rows = (self._ranked.matches if reranked is None else reranked.ordered)[i][0]
        if not len(rows):
            return {}
        first, _ = first_occurrences(self._table.first_rows[rows])
        firsts = self._table.first_rows[rows[first]].tolist()
        if reranked is None:
            return dict.fromkeys(firsts)
        return dict(zip(firsts, reranked.probabilities[i][first].tolist(), strict=True))

    def _gold_rows(self, i: int) -> list[int]:
        """Return the first rows of the gold POIs of a query."""
        start, end = self._gold_bounds[i : i + 2]
        return list(dict.fromkeys(self._table.first_rows[self._ranked.truth.gold.row[start:end]].tolist()))

    def _gold(self, record: Record) -> Answer:
        """Return the first positive of a query whose gold is not in the table."""
        positive = record.positives[0]
        return Answer(None, positive.text, positive.lng, positive.lat, True, None)

    def _answer(self, row: int, gold_rows: list[int], probabilities: dict[int, float | None]) -> Answer:
        rows, address = self._table.rows, self._table.pois["address"].iloc[row]
        poi_id = str(row if self._ids is None else self._ids.iloc[row])
        lng, lat = float(rows.lng[row]), float(rows.lat[row])
        return Answer(poi_id, address, lng, lat, row in gold_rows, probabilities.get(row))

    def _features(self, i: int, gold_row: int | None, first_row: int) -> list[FeatureValues]:
        """Return the features of the gold and of the first answer; those that differ most come first."""
        if self._table.reranker is None:
            return []
        rows = [first_row]
        if gold_row is not None and np.isfinite(self._ranked.dense_scores(np.array([i]), np.array([gold_row]))[0]):
            rows.append(gold_row)
        first, *gold = self._table.features(self._ranked, i, np.array(rows)).tolist()
        out = [
            FeatureValues(*one)
            for one in zip(FEATURE_NAMES, gold[0] if gold else [None] * len(first), first, strict=True)
        ]
        return sorted(out, key=lambda one: 0.0 if one.gold is None else -abs(one.first - one.gold))
