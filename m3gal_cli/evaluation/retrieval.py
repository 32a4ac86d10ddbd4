"""Full database: find the gold among all POIs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.records import PoiKey, Record
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.evaluation.result import KINDS, Evaluation, RowScores, best_match_m, summarise
from m3gal_cli.retrieval.database import PoiDatabase
from m3gal_cli.retrieval.embed import Embedder, Progress
from m3gal_cli.retrieval.lexical import LexicalIndex


def evaluate_retrieval(
    records: Sequence[Record],
    pois: pd.DataFrame,
    embedder: Embedder,
    bm25: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Metrics over the whole POI table. Rows equal to a positive in text and coordinates are gold; ties never help.

    Raises:
        InputError: no query has its gold in the table.
    """
    began = time.perf_counter()
    database = PoiDatabase(pois, embedder, progress)
    gold = _gold_rows(records, database)
    if not any(len(rows) for rows in gold):
        hint = "The table and the records must describe the same POIs, text and coordinates alike."
        raise InputError("no positive passage of the records is in the POI table", hint=hint)
    queries = embedder.queries([r.query for r in records])
    lexical = LexicalIndex(list(pois["address"])) if bm25 else None
    kinds = (*KINDS, "bm25") if lexical else KINDS
    rows = {kind: RowScores() for kind in kinds}
    lng, lat = pois["lng"].to_numpy(np.float64), pois["lat"].to_numpy(np.float64)
    for scores in database.scores(queries):
        run = range(scores.first, scores.first + len(scores.text))
        tables: dict[str, NDArray[np.float32]] = {
            "text": scores.text,
            "location": scores.location,
            "fused": scores.fused,
        }
        if lexical:
            tables["bm25"] = np.stack([lexical.scores(records[i].query) for i in run])
        mask = np.zeros(scores.text.shape, bool)
        for i in run:
            mask[i - scores.first, gold[i]] = True
        for kind, table in tables.items():
            rows[kind].ranks.append(gold_ranks(table, mask))
            metres = [best_match_m(records[i], line, lng, lat) for i, line in zip(run, table, strict=True)]
            rows[kind].metres.append(np.array(metres))
    return summarise(rows, records, len(database), True, time.perf_counter() - began, seed)


def _gold_rows(records: Sequence[Record], database: PoiDatabase) -> list[list[int]]:
    """Rows of the table that are gold, query by query."""
    where: dict[PoiKey, list[int]] = {}
    for row, key in enumerate(database.keys()):
        where.setdefault(key, []).append(row)
    return [sorted(row for key in record.gold for row in where.get(key, ())) for record in records]
