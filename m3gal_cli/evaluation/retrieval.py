"""Full-database evaluation: rank the gold among all POIs of a table.

Scores are streamed in tiles, and ranks are counted, so the memory for scores does not grow with the table.
``score_tiles`` explains why the ranks are exact.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.duplicates import PlaceKey, first_equal_rows, place_key
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.embedding_cache import EmbeddingCache
from m3gal_cli.encoders.protocol import Encoder
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.candidates import Duplicates, find_candidates
from m3gal_cli.evaluation.distinct_rows import DistinctRows
from m3gal_cli.evaluation.leakage import leakage_notes
from m3gal_cli.evaluation.rank_counting import GoldPairs, GroundTruth, RankCounter
from m3gal_cli.evaluation.result import KINDS, Evaluation, Matches, QueryResults, TopMatches, summarise
from m3gal_cli.evaluation.score_stream import BlockSizes, ScoreStream
from m3gal_cli.evaluation.score_tiles import Tile
from m3gal_cli.evaluation.top_matches import FusedResults, TopMatchCollector, append_unranked, rerank_matches
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidate_table import CandidateTable
from m3gal_cli.matching.candidates import DEPTHS, Depths
from m3gal_cli.rerank.linear import LinearReranker, table_document_frequencies
from m3gal_cli.rerank.weights import RerankerWeights

ENCODING, COUNTING, SPARSE, RERANKED = "encoding POIs", "counting", "sparse", "reranked"
TEXT_BATCH = 100_000
StageProgress = Callable[[str, int, int], None]  # called with the stage, the number done and the total


@dataclass(frozen=True)
class RetrievalOptions:
    """Options of the full-database evaluation."""

    sparse: bool = False  # add the scores of the sparse search
    seed: int = 0  # random seed of the bootstrap
    depth: int = 0  # number of best matches per query to return, for a run file
    texts: EmbeddingCache = field(default_factory=EmbeddingCache)  # cache of text vectors
    reranker: RerankerWeights | None = None  # adds the reranked scores
    order: str = "fused"  # or "reranked": the score that orders the best matches
    depths: Depths = DEPTHS  # numbers of candidates per query
    training_records: Sequence[Record] = ()  # those of the run, to find leaked queries
    sizes: BlockSizes = field(default_factory=BlockSizes)  # sizes of the pieces of work, which change no result


def evaluate_retrieval(
    records: Sequence[Record],
    pois: pd.DataFrame,
    encoder: Encoder,
    options: RetrievalOptions = RetrievalOptions(),
    progress: StageProgress | None = None,
) -> Evaluation:
    """Compute metrics over the whole POI table.

    Rows equal to a positive in text and coordinates are gold. Each duplicate of another POI counts. Ties never help.

    Args:
        records: Labelled queries.
        pois: Columns address, lng, lat (degrees, WGS-84).
        encoder: The model.
        options: See ``RetrievalOptions``.
        progress: Called with the progress of each stage: texts encoded, rows counted, queries scored.

    Raises:
        InputError: No query has its gold in the table.
    """
    began = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    rows = DistinctRows(pois, encoder)
    gold, repeated = find_gold(records, rows)
    truth = GroundTruth(gold, records, rows.lng, rows.lat)
    depth = max(options.depth, options.depths.dense if options.reranker else 0)
    duplicates = Duplicates(first_equal_rows(rows.text, rows.lng, rows.lat), gold, repeated)
    collector = TopMatchCollector(depth, gold, repeated, duplicates.first_rows) if depth else None
    dense = _DenseScores(records, rows, encoder, truth, options, report)
    results = dense.stream(collector)
    matches: Matches = [] if collector is None else collector.matches()
    best, shares = None, {}
    if options.reranker is not None or options.sparse:
        addresses = pois["address"].tolist()
        table = SparseTable.of(addresses, rows.lng, rows.lat, duplicates.is_first)
    if options.sparse:
        results["sparse"] = _sparse(records, table, truth, lambda done: report(SPARSE, done, len(records)))
    if options.reranker is not None:
        found = find_candidates(records, table, matches, duplicates, dense.score_pairs, options.depths)
        shares = found.shares()
        results["reranked"], ordered = rerank_matches(
            records,
            CandidateTable.of_pois(pois, table),
            found.by_query,
            duplicates.first_rows,
            truth,
            FusedResults(results["fused"], dense.best_gold),
            LinearReranker(options.reranker.by_name, table_document_frequencies(pois)),
            lambda done: report(RERANKED, done, len(records)),
        )
        best = np.array([rows[0] if len(rows) else -1 for rows, _ in ordered])
        matches = append_unranked(ordered, matches) if options.order == "reranked" else matches
    evaluation = summarise(results, records, len(rows), True, time.perf_counter() - began, options.seed)
    evaluation.candidates = shares
    evaluation.notes += leakage_notes(records, options.training_records)
    pairs = np.stack([gold.query[~repeated], gold.row[~repeated]], axis=1)
    evaluation.top = TopMatches([(r[: options.depth], s[: options.depth]) for r, s in matches], pairs, best)
    return evaluation


class _DenseScores:
    """The text, location and fused scores of all queries and rows, and exact fused scores of chosen pairs."""

    def __init__(
        self,
        records: Sequence[Record],
        rows: DistinctRows,
        encoder: Encoder,
        truth: GroundTruth,
        options: RetrievalOptions,
        report: StageProgress,
    ) -> None:
        self._truth, self._report = truth, report
        texts = options.texts.encode(rows.texts, encoder, lambda done, total: report(ENCODING, done, total))
        self._queries = encoder.encode_queries([r.query for r in records])
        self._stream = ScoreStream(rows, texts, encoder, options.sizes)

    def stream(self, collector: TopMatchCollector | None) -> dict[str, QueryResults]:
        """Stream the scores of all rows; collect the top matches by fused score. Sets ``best_gold``."""
        gold = self._truth.gold
        locations, scores = self._stream.exact_scores(self._queries, gold.query, gold.row)
        self.best_gold = gold.best(scores["fused"])
        counters = {kind: RankCounter(self._truth, gold.best(scores[kind])) for kind in KINDS}

        def use(tile: Tile) -> None:
            counters[tile.kind].add(tile)
            if collector is not None and tile.kind == "fused":
                collector.add(tile)

        self._stream.stream(self._queries, locations, use, lambda done, total: self._report(COUNTING, done, total))
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
