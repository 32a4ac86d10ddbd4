"""Evaluate the text score of an encoder on the held-out queries of a city."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from m3gal_cli.data.records import read_records
from m3gal_cli.encoders.protocol import Encoder


class CityResult(NamedTuple):
    """Recall of the text score among all POIs of a city."""

    city: str
    pois: int
    queries: int
    recall_1: float
    recall_5: float


def evaluate_city(folder: Path, encoder: Encoder) -> CityResult:
    """Rank all POIs of a city for its test queries by q.k alone; rows of equal text as the gold POI count as gold."""
    pois = pd.read_parquet(folder / f"poi_database_{folder.name}.parquet")
    records = read_records(folder / f"test_dataset_use_gis_{folder.name}.jsonl")
    texts = pois["address"].to_numpy()
    vectors = encoder.encode_poi_texts(texts.tolist())
    scores = encoder.encode_queries([record.query for record in records]) @ vectors.T
    ranks = []
    for record, row in zip(records, scores, strict=True):
        gold = np.isin(texts, [passage.text for passage in record.positives])
        ranks.append(1 + int((row[~gold] >= row[gold].max()).sum()))
    found = np.array(ranks)
    return CityResult(folder.name, len(pois), len(records), float((found <= 1).mean()), float((found <= 5).mean()))


def table(results: list[CityResult]) -> str:
    """Return the results as a Markdown table."""
    lines = ["| city | POIs | queries | R@1 | R@5 |", "|---|---|---|---|---|"]
    for r in results:
        lines.append(f"| {r.city} | {r.pois:,} | {r.queries:,} | {r.recall_1:.3f} | {r.recall_5:.3f} |")
    return "\n".join(lines)
