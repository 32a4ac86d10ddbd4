"""Both evaluations in loops over integers: the oracle of ranks and metrics, including ties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.evaluation.ranks import MISS
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.geo.distances import EARTH_RADIUS_M
from tests.helpers.toy_models import ToyEncoder

KINDS = ("text", "location", "fused")


def metres(lng1: float, lat1: float, lng2: float, lat2: float) -> float:
    """Return the distance on the sphere, by the angle between two vectors from its centre."""
    a, b = (
        np.array([math.cos(y) * math.cos(x), math.cos(y) * math.sin(x), math.sin(y)])
        for x, y in ((math.radians(lng1), math.radians(lat1)), (math.radians(lng2), math.radians(lat2)))
    )
    return EARTH_RADIUS_M * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


def poi(number: int) -> Passage:
    """Return one of 20 POIs, which share texts and locations but never both."""
    number %= 20
    return Passage(f"poi {number % 8}", 120.0 + number % 5 / 100, 30.0 + number // 5 / 100)


# A table with repeated rows, without the POIs 0, 1 and 2; for each row the first equal row; the first rows.
ROWS = [poi(n) for n in [*range(3, 20), 5, 5, 9, 17]]
FIRST_ROWS = [[p.key for p in ROWS].index(p.key) for p in ROWS]
DISTINCT = sorted(set(FIRST_ROWS))


def table(rows: Sequence[Passage]) -> pd.DataFrame:
    return pd.DataFrame([(p.text, p.lng, p.lat) for p in rows], columns=["address", "lng", "lat"])


def records(count: int, seed: int = 0) -> list[Record]:
    """Return records with candidate lists of different lengths.

    Some negatives equal the gold. Every other query has a location.
    """
    draw = np.random.default_rng(seed)
    out = []
    for i in range(count):
        gold = [poi(int(n)) for n in draw.integers(0, 20, draw.integers(1, 3))]
        others = [poi(int(n)) for n in draw.integers(0, 20, draw.integers(0, 12))]
        location = (gold[0].lng + float(draw.choice([0.001, 0.05, 0.3])), gold[0].lat) if i % 2 else (None, None)
        out.append(Record(f"typed {i}", gold, others, str(i), *location))
    return out


def scores(encoder: ToyEncoder, query: str, row: Passage) -> dict[str, float]:
    """Return the three scores of one candidate, as dot products of integers."""
    vector = encoder.encode_queries([query])[0].tolist()
    sides = encoder.encode_poi_texts([row.text])[0], encoder.encode_locations([row.lng], [row.lat])[0]
    text, location = (sum(a * b for a, b in zip(vector, side.tolist(), strict=True)) for side in sides)
    return {"text": text, "location": location, "fused": text + location}


def rank_and_error(values: list[float], rows: Sequence[Passage], record: Record) -> tuple[float, float]:
    """Return the rank of the best gold behind all that tie with it, and the metres of the farthest best match."""
    gold = [any((r.text, r.lng, r.lat) == (p.text, p.lng, p.lat) for p in record.positives) for r in rows]
    own = max((v for v, g in zip(values, gold, strict=True) if g), default=None)
    rank = math.inf
    if own is not None:
        rank = 1 + sum(v >= own and not g for v, g in zip(values, gold, strict=True))
    best = [r for v, r in zip(values, rows, strict=True) if v == max(values)]
    return rank, max(min(metres(r.lng, r.lat, p.lng, p.lat) for p in record.positives) for r in best)


def results(encoder: ToyEncoder, records: Sequence[Record], rows: Sequence[Passage], kind: str) -> list[tuple]:
    """Return rank and error of each record among the rows; among its own candidates if there are no rows."""
    out = []
    for record in records:
        own = rows or record.passages
        out.append(rank_and_error([scores(encoder, record.query, p)[kind] for p in own], own, record))
    return out


def metrics(results: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the metrics that do not depend on the number of candidates."""
    ranks, errors = [r for r, _ in results], [e for _, e in results]
    out = {f"recall@{k}": sum(r <= k for r in ranks) / len(ranks) for k in (1, 3, 5)}
    out |= {f"mrr@{k}": sum(1 / r for r in ranks if r <= k) / len(ranks) for k in (1, 3, 5)}
    out["ndcg@5"] = sum(1 / math.log2(1 + r) for r in ranks if r <= 5) / len(ranks)
    out["median_error_m"] = median(errors)
    return out | {f"within_{n}": sum(e <= m for e in errors) / len(errors) for n, m in (("100m", 100), ("1km", 1000))}


def assert_equal(evaluation: Evaluation, kind: str, results: Sequence[tuple[float, float]]) -> None:
    """Compare the ranks and metrics of an evaluation with ranks and errors from loops."""
    assert [math.inf if r == MISS else r for r in evaluation.ranks[kind].tolist()] == [rank for rank, _ in results]
    expected = metrics(results)
    assert {name: evaluation.metrics[kind][name] for name in expected} == pytest.approx(expected, rel=1e-9, abs=1e-6)


def assert_equal_slices(found: dict[str, dict[str, float]], records: Sequence[Record], ranks: Sequence[float]) -> None:
    """Compare the recall of queries located near their gold, and of queries far from it."""
    near, far = [], []
    for record, rank in zip(records, ranks, strict=True):
        if record.lng is not None:
            distance = min(metres(record.lng, record.lat, p.lng, p.lat) for p in record.positives)
            if distance <= 2_000:
                near.append(rank)
            elif distance > 10_000:
                far.append(rank)
    for name, part in (("within 2 km of the gold", near), ("beyond 10 km of the gold", far)):
        expected = {"n_queries": len(part)} | {f"recall@{k}": sum(r <= k for r in part) / len(part) for k in (1, 3, 5)}
        assert {k: found[name][k] for k in expected} == pytest.approx(expected)
