"""Answers to queries: places once each, best first, with distances, in an area where one is asked for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.coordinates import EARTH_RADIUS_M
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.matching.matcher import Matcher
from m3gal_cli.rerank.features import Candidates
from m3gal_cli.rerank.linear import LinearReranker, open_document_frequencies
from tests.helpers.indexes import index_of
from tests.helpers.toy_models import ToyEncoder, weights_of

# Rows 0 and 3 are one place; 1 shares its text, 2 its coordinates.
POIS = pd.DataFrame(
    {
        "poi_id": ["first", "far", "other", "again", "last"],
        "address": ["pharmacy", "pharmacy", "bakery", "pharmacy", "北门"],
        "lng": [24.94, 25.10, 24.94, 24.94, 24.90],
        "lat": [60.17, 60.17, 60.17, 60.17, 60.20],
    }
)


def metres(lng1: float, lat1: float, lng2: float, lat2: float) -> float:
    """Along the sphere, by the angle between two vectors from its centre."""
    a, b = (
        np.array([math.cos(y) * math.cos(x), math.cos(y) * math.sin(x), math.sin(y)])
        for x, y in ((math.radians(lng1), math.radians(lat1)), (math.radians(lng2), math.radians(lat2)))
    )
    return EARTH_RADIUS_M * math.atan2(float(np.linalg.norm(np.cross(a, b))), float(a @ b))


@pytest.mark.parametrize("top_k", [1, 3, 10])
@pytest.mark.parametrize("within_km", [None, 0.5, 5.0])
@pytest.mark.parametrize("box", [None, (24.0, 60.0, 25.0, 60.18), (25.0, 60.0, 24.92, 61.0)])
def test_matches_against_loops(
    tmp_path: Path, top_k: int, within_km: float | None, box: tuple[float, float, float, float] | None
) -> None:
    encoder = ToyEncoder(reach=5)
    queries = [Query(i, f"typed {i}", 24.95 if i % 2 else None, 60.16 if i % 2 else None) for i in range(8)]
    index = index_of(tmp_path / "index", POIS, encoder, 3)
    matcher = Matcher(index, encoder, ExactSearcher(index))
    answers = matcher.answer(queries, top_k, within_km, box)
    assert [(a["id"], a["query"]) for a in answers] == [(q.id, q.text) for q in queries]
    distinct = POIS.drop(index=3)
    for query, answer in zip(queries, answers, strict=True):
        vector = encoder.queries([query.text])[0]
        rows = []
        for place, row in enumerate(distinct.itertuples(index=False)):
            placed = query.lng is not None and within_km is not None
            if placed and metres(query.lng, query.lat, row.lng, row.lat) > 1000 * within_km:
                continue
            if box is not None:
                west, south, east, north = box
                across = west <= row.lng <= east if west <= east else row.lng >= west or row.lng <= east
                if not (across and south <= row.lat <= north):
                    continue
            key, where = encoder.poi_texts([row.address])[0], encoder.locations([row.lng], [row.lat])[0]
            rows.append((-float(vector @ key + vector @ where), place, row))
        wanted = sorted(rows)[:top_k]
        assert [m["rank"] for m in answer["matches"]] == list(range(1, min(top_k, len(rows)) + 1))
        for match, (negative, _, row) in zip(answer["matches"], wanted, strict=True):
            assert {k: match[k] for k in ("poi_id", "address", "lng", "lat")} == row._asdict()
            assert match["score"] == -negative
            if query.lng is None:
                assert "distance_m" not in match
            else:
                assert match["distance_m"] == pytest.approx(metres(query.lng, query.lat, row.lng, row.lat), abs=0.06)


def test_answers_are_plain_values(tmp_path: Path) -> None:
    encoder = ToyEncoder()
    index = index_of(tmp_path / "index", POIS, encoder)
    matcher = Matcher(index, encoder, ExactSearcher(index))
    (answer,) = matcher.answer([Query("q", "typed", 24.95, 60.16)], 2)
    for match in answer["matches"]:
        assert {type(v) for v in match.values()} <= {int, float, str}


@pytest.mark.parametrize("top_k", [1, 3, 10])
@pytest.mark.parametrize("box", [None, (24.0, 60.0, 25.0, 60.18)])
def test_a_hybrid_score_orders_what_the_search_finds(
    tmp_path: Path, top_k: int, box: tuple[float, float, float, float] | None
) -> None:
    """All that the search finds is scored again; the answers are the best of it, with their probabilities."""
    encoder = ToyEncoder(reach=5)
    index = index_of(tmp_path / "index", POIS, encoder, 3)
    reranker = LinearReranker(
        weights_of(dense=0.001, coverage=0.5, name=2.0, reference=1.0, near_700m=3.0, near_2500m=1.0),
        open_document_frequencies(index),
        depth=4,
    )
    search = ExactSearcher(index)
    matcher, plain = Matcher(index, encoder, search, reranker), Matcher(index, encoder, search)
    queries = [Query(i, f"bakery typed {i}", 24.95 if i % 2 else None, 60.16 if i % 2 else None) for i in range(6)]
    answers = matcher.answer(queries, top_k, box=box)
    for query, answer, dense in zip(queries, answers, plain.answer(queries, max(4, top_k), box=box), strict=True):
        found = dense["matches"]
        own = Candidates(
            [m["address"] for m in found],
            np.array([m["score"] for m in found], np.float32),
            *(np.array([m[name] for m in found]) for name in ("lng", "lat")),  # type: ignore[literal-required]
        )
        scores = reranker.scores(query, own)
        share = np.exp(scores) / np.exp(scores).sum()
        order = sorted(range(len(found)), key=lambda i: -scores[i])[:top_k]
        assert [m["poi_id"] for m in answer["matches"]] == [found[i]["poi_id"] for i in order]
        assert [m["score"] for m in answer["matches"]] == pytest.approx([share[i] for i in order], rel=1e-5)
        assert [m["rank"] for m in answer["matches"]] == list(range(1, len(order) + 1))
    first = matcher.answer([Query(0, "bakery")], 1)[0]["matches"][0]
    assert first["address"] == "bakery", "its name is typed"
