"""Full-database evaluation: metrics of the ranks of the gold among all POIs of a table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.records import Record
from m3gal_cli.encoders.protocol import Encoder
from m3gal_cli.evaluation.calibration import Calibration, calibration_of
from m3gal_cli.evaluation.leakage import leakage_notes
from m3gal_cli.evaluation.miss_collection import ANSWERS, collect_misses
from m3gal_cli.evaluation.reranking import confidences
from m3gal_cli.evaluation.result import Evaluation, TopMatches, summarise
from m3gal_cli.evaluation.robustness import Rows, robustness_rows
from m3gal_cli.evaluation.table_ranker import RankedQueries, RankingOptions, StageProgress, TableRanker
from m3gal_cli.evaluation.top_matches import append_unranked

CALIBRATION = "calibration"


@dataclass(frozen=True)
class RetrievalOptions(RankingOptions):
    """Options of the full-database evaluation."""

    seed: int = 0  # random seed of the bootstrap and of the perturbations
    order: str = "fused"  # or "reranked": the score that orders the best matches
    training_records: Sequence[Record] = ()  # those of the run, to find leaked queries
    calibration: bool = False  # with a reranker: measure the calibration of its probabilities
    perturb: bool = False  # also evaluate changed queries
    misses: bool = False  # collect the queries whose gold is not first


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
        pois: Columns address, lng, lat (degrees, WGS-84), and poi_id for the misses.
        encoder: The model.
        options: See ``RetrievalOptions``.
        progress: Called with the progress of each stage: texts encoded, rows counted, queries scored.

    Raises:
        InputError: No query has its gold in the table.
    """
    began = time.perf_counter()
    report = progress or (lambda stage, done, total: None)
    depth = max(options.depth, ANSWERS if options.misses else 0)
    table = TableRanker(pois, encoder, replace(options, depth=depth), report)
    ranked = table.rank(records, options.sparse)
    calibration = _calibration(table, ranked, report) if options.calibration else None
    robustness = _robustness(table, ranked, options.seed) if options.perturb else None
    evaluation = summarise(ranked.results, records, len(table), True, time.perf_counter() - began, options.seed)
    evaluation.candidates, evaluation.calibration, evaluation.robustness = ranked.shares, calibration, robustness
    evaluation.notes += leakage_notes(records, options.training_records)
    evaluation.top = _top_matches(ranked, options)
    if options.misses:
        evaluation.misses = collect_misses(table, ranked)
    return evaluation


def _top_matches(ranked: RankedQueries, options: RetrievalOptions) -> TopMatches:
    """Return the best matches and the first of duplicate gold rows."""
    matches, best, gold = ranked.matches, None, ranked.truth.gold
    if ranked.reranked is not None:
        ordered = ranked.reranked.ordered
        best = np.array([rows[0] if len(rows) else -1 for rows, _ in ordered])
        matches = append_unranked(ordered, matches) if options.order == "reranked" else matches
    pairs = np.stack([gold.query[~ranked.repeated], gold.row[~ranked.repeated]], axis=1)
    return TopMatches([(r[: options.depth], s[: options.depth]) for r, s in matches], pairs, best)


def _calibration(table: TableRanker, ranked: RankedQueries, report: StageProgress) -> Calibration | None:
    """Return the calibration of the probabilities of first answers; None without a reranker."""
    if ranked.reranked is None or table.reranker is None:
        return None
    records = ranked.records

    def progress(done: int) -> None:
        report(CALIBRATION, done, len(records))

    return calibration_of(confidences(records, ranked.found, ranked.truth, ranked.reranked, table.reranker, progress))


def _robustness(table: TableRanker, ranked: RankedQueries, seed: int) -> Rows:
    """Rank the changed queries by the score that orders answers."""
    kind = ranked.answer_score

    def rank(records: Sequence[Record]) -> NDArray[np.int64]:
        return table.rank(records).results[kind].ranks

    return robustness_rows(ranked.records, ranked.results[kind].ranks, rank, len(table), seed)
