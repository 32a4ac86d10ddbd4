"""Sparse search against loops over sets: scores, ties, filters, segments, and the limit of postings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index import sparse
from m3gal_cli.index.document_frequencies import open_frequencies
from m3gal_cli.index.sparse import SparseSearcher, best_positions
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.index.writer import open_writer
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from tests.helpers.indexes import index_of
from tests.helpers.sparse import sparse_scores
from tests.helpers.toy_models import ToyEncoder

DRAW = np.random.default_rng(0)
WORDS = ["hotel", "kämp", "bar", "north", "gate", "文三路", "花园", "St", "12a", "école"]
ADDRESSES = [", ".join(DRAW.choice(WORDS, DRAW.integers(1, 4))) for _ in range(90)] + ["", "...", "HOTEL"]
LNG, LAT = DRAW.uniform(-1, 1, len(ADDRESSES)), DRAW.uniform(-1, 1, len(ADDRESSES))
QUERIES = ["hotel kamp", "Hotell Kämp bra", "文三 hua yuan", "gate 12a", "zzz", "", "hotel", "ecole north st."]
TABLE = SparseTable.of(ADDRESSES, LNG, LAT)


def ranked(scores: list[float], rows: list[int], k: int) -> list[int]:
    """Return the best rows with a positive score; scores within float32 rounding are equal, and ordered by row."""
    found = [row for row in rows if scores[row] > 0]
    return sorted(found, key=lambda row: (-np.float32(scores[row]), row))[:k]


@pytest.mark.parametrize("query", QUERIES)
def test_scores_are_those_of_loops_and_lie_between_0_and_1(query: str) -> None:
    expected, searcher = sparse_scores(ADDRESSES, query), TABLE.searcher
    every = searcher.all_scores(searcher.query(query))
    np.testing.assert_allclose(every, expected, rtol=1e-6)
    assert every.min() >= 0
    assert every.max() <= 1
    rows = DRAW.permutation(len(ADDRESSES))[:40]
    assert searcher.scores(searcher.query(query), rows).tolist() == every[rows].tolist(), "bitwise equal"


@pytest.mark.parametrize("k", [1, 5, 1000])
@pytest.mark.parametrize("min_rescored", [1, 500])
def test_a_search_equals_sorting_all_scores(k: int, min_rescored: int) -> None:
    filters = [None, GeoFilter((-1.0, -1.0, 0.2, 0.5)), None, GeoFilter(None, (0.0, 0.0), 50_000.0), None, None]
    filters += [GeoFilter((5.0, 5.0, 6.0, 6.0)), GeoFilter((-1.0, -1.0, 1.0, 1.0))]
    searcher = SparseSearcher([TABLE], TABLE.frequencies, min_rescored=min_rescored)
    result = searcher.search(QUERIES, k, filters)
    for i, query in enumerate(QUERIES):
        scores = searcher.all_scores(searcher.query(query)).tolist()
        allowed = range(len(ADDRESSES)) if filters[i] is None else filters[i].rows(LNG, LAT).tolist()
        expected = ranked(scores, list(allowed), k)
        assert result.rows[i].tolist() == [*expected, *[-1] * (k - len(expected))]
        assert result.scores[i, : len(expected)].tolist() == [np.float32(scores[row]) for row in expected]
    assert (result.rows[QUERIES.index("zzz")] == -1).all()
    assert (result.rows[QUERIES.index("")] == -1).all()


def test_rows_that_are_not_live_are_not_found_and_do_not_count() -> None:
    live = DRAW.random(len(ADDRESSES)) < 0.7
    table = SparseTable.of(ADDRESSES, LNG, LAT, live)
    result = table.searcher.search(QUERIES, 1000)
    for i, query in enumerate(QUERIES):
        scores = sparse_scores(ADDRESSES, query, live.tolist())
        np.testing.assert_allclose(table.searcher.all_scores(table.searcher.query(query)), scores, rtol=1e-6)
        found = result.rows[i][result.rows[i] >= 0].tolist()
        assert sorted(found) == sorted(ranked(scores, np.flatnonzero(live).tolist(), 1000))


@pytest.mark.parametrize("max_postings", [500_000, 40])
def test_results_do_not_depend_on_the_division_into_segments(tmp_path: Path, max_postings: int) -> None:
    pois = pd.DataFrame({"poi_id": range(len(ADDRESSES)), "address": ADDRESSES, "lng": LNG, "lat": LAT})
    whole = index_of(tmp_path / "whole", pois, ToyEncoder())
    index_of(tmp_path / "parts", pois[:17], ToyEncoder())
    for first in (17, 18, 60):
        with open_writer(tmp_path / "parts", ToyEncoder) as writer:
            writer.upsert(pois[first : {17: 18, 18: 60, 60: 93}[first]])
            parts = writer.index
    assert len(parts.segments) == 4
    filters = [None, GeoFilter((-1.0, -1.0, 0.2, 0.5))] * 4
    results = [
        SparseSearcher(index.segments, open_frequencies(index), max_postings, 3).search(QUERIES, 9, filters)
        for index in (whole, parts)
    ]
    for own, other in zip(*results, strict=True):
        assert own.tolist() == other.tolist()
    rows = np.array([60, 3, 17, 92, 18, 3])
    terms, expected = parts.terms_at(rows), whole.terms_at(rows)
    assert terms.folded() == expected.folded()
    assert terms.ngrams.values.tolist() == expected.ngrams.values.tolist()
    assert len(parts.terms_at(rows[:0])) == 0


def test_a_query_of_many_postings_reads_the_rarest_ngrams_and_scores_by_all() -> None:
    draw = np.random.default_rng(1)
    names = [f"{draw.choice(['restaurant', 'pharmacy'])} {number}" for number in range(3000)]
    table = SparseTable.of(names, np.zeros(3000), np.zeros(3000))
    queries = [f"restaurant {number}" for number in range(1000, 1200)]
    exact = table.searcher.search(queries, 5)
    limited = SparseSearcher([table], table.frequencies, max_postings=400, min_rescored=40).search(queries, 5)
    query = table.searcher.query(queries[0])
    read, _ = query.rarest(400)
    assert query.counts[np.isin(query.ngrams, read)].sum() <= 400 < query.counts.sum()
    assert len(query.rarest(0)[0]) == 1, "the rarest n-gram is always read"
    same = limited.rows == exact.rows
    assert same[:, 0].mean() > 0.98
    assert (limited.scores[same] == exact.scores[same]).all(), "found rows have exact scores"


def test_the_best_values_are_chosen_as_by_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "SAMPLE_ROWS", 64)
    draw = np.random.default_rng(2)
    for count in (1, 3, 40, 5000):
        for size in (0, 1, 100, 3000):
            values = np.round(draw.exponential(size=size) * (draw.random(size) < 0.4), 1).astype(np.float32)
            expected = sorted(np.flatnonzero(values > 0).tolist(), key=lambda i: (-values[i], i))[:count]
            assert best_positions(values, count).tolist() == sorted(expected)


def test_an_empty_table_has_no_answers() -> None:
    table = SparseTable.of([], np.zeros(0), np.zeros(0))
    assert table.searcher.search(["hotel", ""], 3).rows.tolist() == [[-1] * 3] * 2
    nothing = SparseSearcher([], NgramFrequencies.total([]))
    assert nothing.search(["hotel"], 2).rows.tolist() == [[-1, -1]]
    assert len(nothing.all_scores(nothing.query("hotel"))) == 0
