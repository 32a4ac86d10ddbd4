"""Scores and search over a POI table against loops, with many ties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from toy import TEXTS, ToyEmbedder, toy_checkpoint

from m3gal_cli.retrieval import database as module
from m3gal_cli.retrieval.database import PoiDatabase
from m3gal_cli.retrieval.embed import Embedder

QUERIES = [f"query {i}" for i in range(23)]


def table(count: int, texts: int = 9, places: int = 7) -> pd.DataFrame:
    """POIs of few distinct texts and places: most rows share one, some are equal in both."""
    draw = np.random.default_rng(count)
    place = draw.integers(0, places, count)
    columns = {
        "poi_id": [f"p{i}" for i in range(count)],
        "address": [f"poi {i}" for i in draw.integers(0, texts, count)],
    }
    return pd.DataFrame(columns | {"lng": 120 + place % 3 / 10, "lat": 30 + place / 10})


def by_loops(pois: pd.DataFrame, embedder: Embedder) -> tuple[np.ndarray, np.ndarray]:
    """q.k and q.g' of every query and row."""
    queries = embedder.queries(QUERIES)
    text, location = (np.zeros((len(QUERIES), len(pois))) for _ in range(2))
    for row, (address, lng, lat) in enumerate(zip(pois["address"], pois["lng"], pois["lat"], strict=True)):
        key, place = embedder.poi_texts([address])[0], embedder.locations([lng], [lat])[0]
        for i, query in enumerate(queries):
            text[i, row] = sum(a * b for a, b in zip(query.tolist(), key.tolist(), strict=True))
            location[i, row] = sum(a * b for a, b in zip(query.tolist(), place.tolist(), strict=True))
    return text, location


@pytest.mark.parametrize("at_once", [1, 150, 30_000_000])
def test_scores_against_loops(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    pois, embedder = table(40), ToyEmbedder()
    text, location = by_loops(pois, embedder)
    parts = list(PoiDatabase(pois, embedder).scores(embedder.queries(QUERIES)))
    assert [p.first for p in parts] == list(range(0, len(QUERIES), {1: 1, 150: 3}.get(at_once, 100)))
    assert (np.concatenate([p.text for p in parts]) == text).all()
    assert (np.concatenate([p.location for p in parts]) == location).all()
    assert (np.concatenate([p.fused for p in parts]) == text + location).all()


@pytest.mark.parametrize("top_k", [1, 5, 39, 40, 1000])
@pytest.mark.parametrize("at_once", [150, 30_000_000])
def test_search_is_a_stable_sort(monkeypatch: pytest.MonkeyPatch, at_once: int, top_k: int) -> None:
    monkeypatch.setattr(module, "SCORES_AT_ONCE", at_once)
    pois, embedder = table(40), ToyEmbedder()
    fused = sum(by_loops(pois, embedder))
    rows, scores = PoiDatabase(pois, embedder).search(embedder.queries(QUERIES), top_k)
    ties = 0
    for line, found, values in zip(fused, rows, scores, strict=True):
        order = sorted(range(len(pois)), key=lambda row, line=line: (-line[row], row))
        assert found.tolist() == order[:top_k]
        assert values.tolist() == line[order[:top_k]].tolist()
        ties += top_k < len(pois) and line[order[top_k - 1]] == line[order[top_k]]
    assert ties or top_k >= 39, "no tie at the edge: this test would show little"


def test_equal_rows_score_equal_to_the_bit_by_a_real_model() -> None:
    embedder = Embedder(toy_checkpoint(), batch_size=2)
    pois = pd.DataFrame({"address": TEXTS * 5, "lng": [120.1, 120.2, 120.3, 120.4, 120.5] * 5, "lat": [30.1] * 25})
    queries = embedder.queries(TEXTS)
    (scores,) = PoiDatabase(pois, embedder).scores(queries)
    for found in (scores.text, scores.location, scores.fused):
        assert (found.reshape(5, 5, 5) == found[:, None, :5]).all()
        assert len(np.unique(found[0])) == 5
    wanted = queries @ (embedder.poi_texts(TEXTS) + embedder.locations(pois["lng"][:5], pois["lat"][:5])).T
    np.testing.assert_allclose(scores.fused[:, :5], wanted, atol=1e-6)


def test_keys_make_rows_equal_that_differ_by_blanks_and_millimetres() -> None:
    columns = {"address": ["a", " a ", "a", "b"], "lng": [120.1, 120.1 + 1e-9, 120.2, 120.1], "lat": [30.1] * 4}
    keys = PoiDatabase(pd.DataFrame(columns), ToyEmbedder()).keys()
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


def test_no_queries() -> None:
    rows, scores = PoiDatabase(table(4), ToyEmbedder()).search(np.zeros((0, 3), np.float32), 2)
    assert rows.shape == scores.shape == (0, 2)
