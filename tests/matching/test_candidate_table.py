"""Candidates of POI tables and indexes; duplicates are one candidate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidate_table import CandidateTable
from m3gal_cli.matching.candidates import CandidateRows
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.reranker import Logits
from m3gal_cli.text.terms import Terms
from tests.helpers.bruteforce import FIRST_ROWS, ROWS, table
from tests.helpers.indexes import index_of
from tests.helpers.toy_models import ToyEncoder

QUERY = Query(1, "typed")


class RecordingReranker:
    """A reranker that returns the negated dense scores and keeps its candidates."""

    def score(self, query: Query, candidates: Candidates) -> Logits:
        self.candidates = candidates
        return Logits(-np.asarray(candidates.scores, np.float64), 0.5)


def table_of(pois: pd.DataFrame) -> CandidateTable:
    lng, lat = (pois[name].to_numpy(float) for name in ("lng", "lat"))
    return CandidateTable.of_table(SparseTable.of(pois["address"].tolist(), lng, lat))


@pytest.mark.parametrize("source", ["table", "index"])
def test_rows_become_candidates(tmp_path: Path, source: str) -> None:
    found = CandidateRows(np.array([4, 0, 2]), np.array([0.5, 0.25, 0.125]), np.array([0.0, 0.75, 1.0]))
    candidate_table = table_of(table(ROWS))
    if source == "index":
        pois = table(ROWS[:9]).assign(poi_id=range(9))
        candidate_table = CandidateTable.of_index(index_of(tmp_path / "index", pois, ToyEncoder()))
    candidates = candidate_table.candidates(found)
    places = zip(candidates.lng, candidates.lat, strict=True)
    assert list(places) == [(ROWS[row].lng, ROWS[row].lat) for row in found.rows]
    assert candidates.scores.tolist() == [0.5, 0.25, 0.125]
    assert candidates.sparse_scores.tolist() == [0.0, 0.75, 1.0]
    assert (
        candidates.terms.ngrams.values.tolist()
        == Terms.of([ROWS[row].text for row in found.rows]).ngrams.values.tolist()
    )


def test_duplicates_are_one_candidate_and_share_its_logit_and_probability() -> None:
    fused = np.random.default_rng(0).permutation(len(ROWS)).astype(np.float64)[FIRST_ROWS]
    found = CandidateRows.ordered(np.arange(len(ROWS)), fused, fused / 2)
    numbers = np.array(FIRST_ROWS)[found.rows]
    reranker = RecordingReranker()
    logits, probabilities = table_of(table(ROWS)).rerank(reranker, QUERY, found, numbers)
    first = list(dict.fromkeys(numbers.tolist()))
    assert len(first) < len(ROWS)
    assert reranker.candidates.scores.tolist() == fused[first].tolist()
    assert logits.tolist() == (-fused[found.rows]).tolist()
    total = np.exp(-fused[first]).sum() + np.exp(0.5)
    np.testing.assert_allclose(probabilities, np.exp(-fused[found.rows]) / total)
