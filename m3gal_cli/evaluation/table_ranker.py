"""Rank the gold of queries among all POIs of a table.

Scores are streamed in tiles, and ranks are counted, so the memory for scores does not grow with the table.
``score_tiles`` explains why the ranks are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.duplicates import PlaceKey, first_equal_rows, place_key
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.embedding_cache import EmbeddingCache, TextVectors
from m3gal_cli.encoders.protocol import Encoder, Progress
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.candidates import Duplicates, ScorePairs, find_candidates
from m3gal_cli.evaluation.distinct_rows import DistinctRows
from m3gal_cli.evaluation.rank_counting import Floats, GoldPairs, GroundTruth, Numbers, RankCounter
from m3gal_cli.evaluation.reranking import FusedResults, RerankedQueries, TableReranker, rerank_matches
from m3gal_cli.evaluation.result import KINDS, Matches, QueryResults
from m3gal_cli.evaluation.score_stream import BlockSizes, ScoreStream
from m3gal_cli.evaluation.score_tiles import Tile
from m3gal_cli.evaluation.top_matches import TopMatchCollector
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidates import DEPTHS, CandidateRows, Depths
from m3gal_cli.rerank.weights import RerankerWeights

ENCODING, COUNTING, SPARSE, RERANKED = "encoding POIs", "counting", "sparse", "reranked"
TEXT_BATCH = 100_000
StageProgress = Callable[[str, int, int], None]  # called with the stage, the number done and the total


@dataclass(frozen=True)
class RankingOptions:
    """Options of the ranking of queries in a table."""

    sparse: bool = False  # add the scores of the sparse search
    depth: int = 0  # number of best matches per query to return
    texts: EmbeddingCache = field(default_factory=EmbeddingCache)  # cache of text vectors
    reranker: RerankerWeights | None = None  # adds the reranked scores
    depths: Depths = DEPTHS  # numbers of candidates per query
    sizes: BlockSizes = field(default_factory=BlockSizes)  # sizes of the pieces of work, which change no result


@dataclass(frozen=True)
class RankedQueries:
    """Queries, their gold in a table, and the ranks of the gold by kind of score."""

    records: Sequence[Record]
    truth: GroundTruth
    repeated: NDArray[np.bool_]  # (G,), whether an earlier row of the query is a duplicate of the gold row
    results: dict[str, QueryResults]
    matches: Matches  # best by fused score; empty if none were wanted
    dense_scores: ScorePairs  # returns the exact fused scores of pairs of query and row
    # With a reranker: the candidates of each query, the share of queries with gold among them, and their new order.
    found: Sequence[CandidateRows] = ()
    shares: dict[str, float] = field(default_factory=dict)
    reranked: RerankedQueries | None = None

    @property
    def answer_score(self) -> str:
        """The kind of score that orders the answers."""
        return "fused" if self.reranked is None else "reranked"


class TableRanker:
    """Ranks sets of queries in a POI table, whose texts are encoded once.

    Args:
        pois: Columns address, lng, lat (degrees, WGS-84).
        encoder: The model.
        options: See ``RankingOptions``.
        report: Called with the progress of each stage: texts encoded, rows counted, queries scored.
    """

    def __init__(self, pois: pd.DataFrame, encoder: Encoder, options: RankingOptions, report: StageProgress) -> None:
        self.pois, self._encoder, self._options, self._report = pois, encoder, options, report
        self.rows = DistinctRows(pois, encoder)
        self.first_rows = first_equal_rows(self.rows.text, self.rows.lng, self.rows.lat)

    @cached_property
    def _texts(self) -> TextVectors:
        return self._options.texts.encode(self.rows.texts, self._encoder, partial(self._report, ENCODING))

    @cached_property
    def _table(self) -> SparseTable:
        is_first = self.first_rows == np.arange(len(self.rows))
        return SparseTable.of(self.pois["address"].tolist(), self.rows.lng, self.rows.lat, is_first)

    @cached_property
    def reranker(self) -> TableReranker | None:
        """The reranker with the document frequencies of the table."""
        weights = self._options.reranker
        return None if weights is None else TableReranker(self._table, self.first_rows, weights)

    def __len__(self) -> int:
        return len(self.rows)

    def rank(self, records: Sequence[Record], sparse: bool = False) -> RankedQueries:
        """Rank the gold of queries.

        Args:
            records: The queries.
            sparse: Also rank by the sparse score, if the options have it.

        Raises:
            InputError: No query has its gold in the table.
        """
        options = self._options
        gold, repeated = find_gold(records, self.rows)
        truth = GroundTruth(gold, records, self.rows.lng, self.rows.lat)
        depth = max(options.depth, options.depths.dense if options.reranker else 0)
        collector = TopMatchCollector(depth, gold, repeated, self.first_rows) if depth else None
        dense = _DenseScores(records, self.rows, self._texts, self._encoder, truth, options.sizes)
        results = dense.stream(collector, partial(self._report, COUNTING))
        matches: Matches = [] if collector is None else collector.matches()
        if sparse:
            results["sparse"] = _sparse(records, self._table, truth, self._progress(SPARSE, records))
        if self.reranker is None:
            return RankedQueries(records, truth, repeated, results, matches, dense.score_pairs)
        duplicates = Duplicates(self.first_rows, gold, repeated)
        found = find_candidates(records, self._table, matches, duplicates, dense.score_pairs, options.depths)
        fused = FusedResults(results["fused"], dense.best_gold)
        progress = self._progress(RERANKED, records)
        reranked = rerank_matches(records, found.by_query, truth, fused, self.reranker, progress)
        results["reranked"] = reranked.results
        parts = found.by_query, found.shares(), reranked
        return RankedQueries(records, truth, repeated, results, matches, dense.score_pairs, *parts)

    def features(self, ranked: RankedQueries, i: int, rows: Numbers) -> Floats:
        """Return the scaled features of some POIs as candidates of query ``i``; a POI that is none joins them.

        Args:
            ranked: The ranked queries.
            i: Number of the query.
            rows: The first rows of the POIs, which have finite vectors.

        Shape:
            rows: (m,) -> (m, F).
        """
        assert self.reranker is not None
        record, found, searcher = ranked.records[i], ranked.found[i], self._table.searcher
        further = np.setdiff1d(rows, self.first_rows[found.rows])
        scores = ranked.dense_scores(np.full(len(further), i), further)
        sparse = searcher.scores(searcher.query(record.query), further)
        joined = CandidateRows.ordered(
            np.concatenate([found.rows, further]),
            np.concatenate([found.scores, scores]),
            np.concatenate([found.sparse_scores, sparse]),
        )
        return self.reranker.features(record, joined, rows)

    def _progress(self, stage: str, records: Sequence[Record]) -> Callable[[int], None]:
        return lambda done: self._report(stage, done, len(records))


class _DenseScores:
    """The text, location and fused scores of all queries and rows, and exact fused scores of chosen pairs."""

    def __init__(
        self,
        records: Sequence[Record],
        rows: DistinctRows,
        texts: TextVectors,
        encoder: Encoder,
        truth: GroundTruth,
        sizes: BlockSizes,
    ) -> None:
        self._truth = truth
        self._queries = encoder.encode_queries([r.query for r in records])
        self._stream = ScoreStream(rows, texts, encoder, sizes)

    def stream(self, collector: TopMatchCollector | None, progress: Progress) -> dict[str, QueryResults]:
        """Stream the scores of all rows; collect the top matches by fused score. Sets ``best_gold``."""
        gold = self._truth.gold
        locations, scores = self._stream.exact_scores(self._queries, gold.query, gold.row)
        self.best_gold = gold.best(scores["fused"])
        counters = {kind: RankCounter(self._truth, gold.best(scores[kind])) for kind in KINDS}

        def use(tile: Tile) -> None:
            counters[tile.kind].add(tile)
            if collector is not None and tile.kind == "fused":
                collector.add(tile)

        self._stream.stream(self._queries, locations, use, progress)
        return {kind: counter.results() for kind, counter in counters.items()}

    def score_pairs(self, query: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the exact fused scores of pairs of query and row. Shape: (n,), (n,) -> (n,)."""
        if not len(query):
            return np.zeros(0)
        return self._stream.exact_scores(self._queries, query, row)[1]["fused"]


def find_gold(records: Sequence[Record], rows: DistinctRows) -> tuple[GoldPairs, NDArray[np.bool_]]:
    """Find the rows of a table that have the place key of a positive.

    Returns:
        The pairs of query and row; (G,), whether an earlier row of the query has the same place key.

    Raises:
        InputError: There are no such rows.
    """
    wanted: dict[PlaceKey, list[int]] = {}
    for i, record in enumerate(records):
        for key in record.gold:
            wanted.setdefault(key, []).append(i)
    gold_texts = {text for text, _, _ in wanted}
    is_gold_text = np.zeros(len(rows.texts), bool)
    for start in range(0, len(is_gold_text), TEXT_BATCH):
        part = list(rows.texts[start : start + TEXT_BATCH])
        is_gold_text[start : start + len(part)] = [text.strip() in gold_texts for text in part]
    pairs, repeated, seen = [], [], set()
    for row in np.flatnonzero(is_gold_text[rows.text]).tolist():
        key = place_key(rows.texts[int(rows.text[row])], float(rows.lng[row]), float(rows.lat[row]))
        pairs += [(i, row) for i in wanted.get(key, ())]
        repeated += [key in seen] * len(wanted.get(key, ()))
        seen.add(key)
    if not pairs:
        hint = "The table and the records must describe the same POIs, text and coordinates alike."
        raise InputError("no positive passage of the records is in the POI table", hint=hint)
    query, row = np.array(pairs, np.int64).T
    order = np.lexsort((row, query))
    return GoldPairs(query[order], row[order], len(records), len(rows)), np.array(repeated)[order]


def _sparse(
    records: Sequence[Record], table: SparseTable, truth: GroundTruth, progress: Callable[[int], None]
) -> QueryResults:
    """Compute ranks and distances by the sparse score, one query at a time."""
    counter = RankCounter(truth, np.full(len(records), -np.inf))
    bounds = np.searchsorted(truth.gold.query, np.arange(len(records) + 1))
    for i, record in enumerate(records):
        scores = table.searcher.all_scores(table.searcher.query(record.query))
        counter.add_query(i, scores, truth.gold.row[bounds[i] : bounds[i + 1]])
        progress(i + 1)
    return counter.results()
