"""Full database: find the gold among all POIs, however many, in memory that does not grow with them.

The table is swept once for text, location and fused scores. Ranks are counted, not sorted, and exact: see
``retrieval.tiles`` for how float32 products decide what they can, and exact ones the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.records import PoiKey, Record, poi_key
from m3gal_cli.encoders.embedding_cache import EmbeddingCache
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.distinct_rows import DistinctRows
from m3gal_cli.evaluation.rank_counting import First, Golds, Positives, RankCounter, Setting
from m3gal_cli.evaluation.reranked import Matches, followed, reranker_of, score_matches
from m3gal_cli.evaluation.result import KINDS, Evaluation, Found, RowScores, summarise
from m3gal_cli.evaluation.score_stream import ScoreStream
from m3gal_cli.evaluation.score_tiles import Tile
from m3gal_cli.rerank.linear import DEPTH, RerankerWeights
from m3gal_cli.text.bm25 import LexicalIndex

ENCODING, COUNTING, LEXICAL, RERANKED = "encoding POIs", "counting", "BM25", "reranked"
STRIPPED_AT_ONCE = 100_000
Stages = Callable[[str, int, int], None]  # the stage, what is done of it, and all of it


@dataclass(frozen=True)
class Options:
    """How to evaluate.

    Args:
        bm25: add a row of BM25.
        seed: of the bootstrap.
        depth: keep so many of the best matches of each query, for a run file.
        texts: where vectors of texts are kept.
        hybrid: weights of the hybrid score, for a row of it.
        order: ``fused`` or ``hybrid``, the score that these matches are the best by.
    """

    bm25: bool = False
    seed: int = 0
    depth: int = 0
    texts: EmbeddingCache = field(default_factory=EmbeddingCache)
    reranker: RerankerWeights | None = None
    order: str = "fused"


def evaluate_retrieval(
    records: Sequence[Record],
    pois: pd.DataFrame,
    encoder: TorchEncoder,
    options: Options = Options(),
    stages: Stages | None = None,
) -> Evaluation:
    """Metrics over the whole POI table. Rows equal to a positive in text and coordinates are gold; ties never help.

    Args:
        pois: address, lng, lat (degrees, WGS-84); equal rows count each.
        stages: is told how far each stage is: texts encoded, rows counted, queries scored by BM25.

    Raises:
        InputError: no query has its gold in the table.
    """
    began = time.perf_counter()
    tell = stages or (lambda stage, done, total: None)
    rows = DistinctRows(pois, encoder)
    golds, again = find_golds(records, rows)
    setting = Setting(golds, Positives(records), rows.lng, rows.lat)
    texts = options.texts.encode(rows.texts, encoder, lambda done, total: tell(ENCODING, done, total))
    queries = encoder.queries([r.query for r in records])
    stream = ScoreStream(rows, texts, encoder)
    places, scores = stream.exact(queries, golds.query, golds.row)
    counters = {kind: RankCounter(setting, golds.best(scores[kind])) for kind in KINDS}
    depth = max(options.depth, DEPTH if options.reranker else 0)
    firsts = rows.firsts() if depth else np.zeros(0, np.int64)
    first = First(depth, golds, again, firsts) if depth else None

    def use(tile: Tile) -> None:
        counters[tile.kind].add(tile)
        if first is not None and tile.kind == "fused":
            first.add(tile)

    stream.run(queries, places, use, lambda done, total: tell(COUNTING, done, total))
    found = {kind: RowScores([counter.ranks()], [counter.metres()]) for kind, counter in counters.items()}
    matches: Matches = first.found() if first is not None else []
    best = None
    if options.reranker is not None:
        found["reranked"], ordered = score_matches(
            *(records, pois, matches, firsts),
            *(lambda i, rows: golds.has(np.full(len(rows), i), rows), found["fused"].ranks[0]),
            reranker_of(options.reranker, pois),
            lambda done: tell(RERANKED, done, len(records)),
        )
        best = np.array([rows[0] for rows, _ in ordered])
        matches = followed(ordered, matches) if options.order == "reranked" else matches
    if options.bm25:
        found["bm25"] = _bm25(records, pois, setting, lambda done: tell(LEXICAL, done, len(records)))
    evaluation = summarise(found, records, len(rows), True, time.perf_counter() - began, options.seed)
    gold = np.stack([golds.query[~again], golds.row[~again]], axis=1)
    evaluation.found = Found([(r[: options.depth], s[: options.depth]) for r, s in matches], gold, best)
    return evaluation


def find_golds(records: Sequence[Record], rows: DistinctRows) -> tuple[Golds, NDArray[np.bool_]]:
    """The rows of a table that equal a positive in text and coordinates.

    Returns:
        The pairs of query and row; (G,) whether the pair repeats a place that an earlier row of the query has.

    Raises:
        InputError: there are none.
    """
    wanted: dict[PoiKey, list[int]] = {}
    for i, record in enumerate(records):
        for key in record.gold:
            wanted.setdefault(key, []).append(i)
    readings = {text for text, _, _ in wanted}
    asked = np.zeros(len(rows.texts), bool)  # of the distinct texts
    for start in range(0, len(asked), STRIPPED_AT_ONCE):
        part = list(rows.texts[start : start + STRIPPED_AT_ONCE])
        asked[start : start + len(part)] = [text.strip() in readings for text in part]
    pairs, repeated, seen = [], [], set()
    for row in np.flatnonzero(asked[rows.text]).tolist():
        key = poi_key(rows.texts[int(rows.text[row])], float(rows.lng[row]), float(rows.lat[row]))
        pairs += [(i, row) for i in wanted.get(key, ())]
        repeated += [key in seen] * len(wanted.get(key, ()))
        seen.add(key)
    if not pairs:
        hint = "The table and the records must describe the same POIs, text and coordinates alike."
        raise InputError("no positive passage of the records is in the POI table", hint=hint)
    query, row = np.array(pairs, np.int64).T
    order = np.lexsort((row, query))
    return Golds(query[order], row[order], len(records), len(rows)), np.array(repeated)[order]


def _bm25(records: Sequence[Record], pois: pd.DataFrame, setting: Setting, done: Callable[[int], None]) -> RowScores:
    """Ranks and distances by BM25, a query at a time."""
    lexical = LexicalIndex(pois["address"])
    counter = RankCounter(setting, np.full(len(records), -np.inf))
    bounds = np.searchsorted(setting.golds.query, np.arange(len(records) + 1))
    for i, record in enumerate(records):
        counter.whole(i, lexical.scores(record.query), setting.golds.row[bounds[i] : bounds[i + 1]])
        done(i + 1)
    return RowScores([counter.ranks()], [counter.metres()])
