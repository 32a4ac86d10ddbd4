"""Both evaluations written out in loops over whole numbers: what ours must equal, ties and all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import numpy as np

from m3gal_cli.data.records import Passage, Record
from m3gal_cli.geo.coordinates import EARTH_RADIUS_M
from tests.helpers.toy_models import ToyEncoder

KINDS = ("text", "location", "fused")


def metres(lng1: float, lat1: float, lng2: float, lat2: float) -> float:
    """Along the sphere, by the angle between two vectors from its centre."""
    a, b = (
        np.array([math.cos(y) * math.cos(x), math.cos(y) * math.sin(x), math.sin(y)])
        for x, y in ((math.radians(lng1), math.radians(lat1)), (math.radians(lng2), math.radians(lat2)))
    )
    return EARTH_RADIUS_M * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


def poi(number: int) -> Passage:
    """POIs share texts and places; 0 to 19 all differ in one of them."""
    number %= 20
    return Passage(f"poi {number % 8}", 120.0 + number % 5 / 100, 30.0 + number // 5 / 100)


def records(count: int, seed: int = 0) -> list[Record]:
    """Ragged candidate lists; some negatives equal the gold, half of the queries know where they were typed."""
    draw = np.random.default_rng(seed)
    out = []
    for i in range(count):
        gold = [poi(int(n)) for n in draw.integers(0, 20, draw.integers(1, 3))]
        others = [poi(int(n)) for n in draw.integers(0, 20, draw.integers(0, 12))]
        here = (gold[0].lng + float(draw.choice([0.001, 0.05, 0.3])), gold[0].lat) if i % 2 else (None, None)
        out.append(Record(f"typed {i}", gold, others, str(i), *here))
    return out


def scores(encoder: ToyEncoder, query: str, row: Passage) -> dict[str, float]:
    """The three scores of one candidate, by dot products of whole numbers."""
    vector = encoder.queries([query])[0].tolist()
    key, place = encoder.poi_texts([row.text])[0].tolist(), encoder.locations([row.lng], [row.lat])[0].tolist()
    text, location = (sum(a * b for a, b in zip(vector, other, strict=True)) for other in (key, place))
    return {"text": text, "location": location, "fused": text + location}


def rank_and_error(values: list[float], rows: Sequence[Passage], record: Record) -> tuple[float, float]:
    """Rank of the first gold behind all that ties with it; metres from the worst of the best matches to a gold."""
    gold = [any((r.text, r.lng, r.lat) == (p.text, p.lng, p.lat) for p in record.positives) for r in rows]
    own = max((v for v, g in zip(values, gold, strict=True) if g), default=None)
    rank = math.inf
    if own is not None:
        rank = 1 + sum(v >= own and not g for v, g in zip(values, gold, strict=True))
    best = [r for v, r in zip(values, rows, strict=True) if v == max(values)]
    return rank, max(min(metres(r.lng, r.lat, p.lng, p.lat) for p in record.positives) for r in best)


def figures(found: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The metrics that are told whatever the number of candidates."""
    ranks, errors = [r for r, _ in found], [e for _, e in found]
    out = {f"recall@{k}": sum(r <= k for r in ranks) / len(ranks) for k in (1, 3, 5)}
    out |= {f"mrr@{k}": sum(1 / r for r in ranks if r <= k) / len(ranks) for k in (1, 3, 5)}
    out["ndcg@5"] = sum(1 / math.log2(1 + r) for r in ranks if r <= 5) / len(ranks)
    out["median_error_m"] = median(errors)
    return out | {f"within_{n}": sum(e <= m for e in errors) / len(errors) for n, m in (("100m", 100), ("1km", 1000))}


def slices(rows: Sequence[Record], ranks: Sequence[float]) -> dict[str, dict[str, float]]:
    """Recall of queries typed near their gold, and far from it."""
    near, far = [], []
    for record, rank in zip(rows, ranks, strict=True):
        if record.lng is not None:
            away = min(metres(record.lng, record.lat, p.lng, p.lat) for p in record.positives)
            if away <= 2_000:
                near.append(rank)
            elif away > 10_000:
                far.append(rank)
    out = {}
    for name, part in (("within 2 km of the gold", near), ("beyond 10 km of the gold", far)):
        if part:
            out[name] = {"n_queries": len(part)} | {
                f"recall@{k}": sum(r <= k for r in part) / len(part) for k in (1, 3, 5)
            }
    return out
