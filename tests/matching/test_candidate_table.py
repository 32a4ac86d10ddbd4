"""Candidates of POI tables and indexes; duplicates are one candidate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.data.records import Passage
from m3gal_cli.matching.candidate_table import CandidateTable
from m3gal_cli.rerank.candidates import Candidates, Floats
from tests.helpers.bruteforce import FIRST_ROWS, ROWS, table
from tests.helpers.indexes import index_of
from tests.helpers.toy_models import ToyEncoder

QUERY = Query(1, "typed")


class RecordingReranker:
    """A reranker that returns the negated first-stage scores and keeps its candidates."""

    depth = 1000

    def score(self, query: Query, candidates: Candidates) -> Floats:
        self.candidates = candidates
        return -np.asarray(candidates.scores, np.float64)


@pytest.mark.parametrize("source", ["table", "index"])
def test_rows_become_candidates(tmp_path: Path, source: str) -> None:
    rows, scores = np.array([4, 0, 2]), np.array([0.5, 0.25, 0.125])
    candidate_table = CandidateTable.of_pois(table(ROWS))
    if source == "index":
        pois = table(ROWS[:9]).assign(poi_id=range(9))
        candidate_table = CandidateTable.of_index(index_of(tmp_path / "index", pois, ToyEncoder()))
    candidates = candidate_table.candidates(rows, scores)
    found = zip(candidates.addresses, candidates.lng, candidates.lat, strict=True)
    assert [Passage(*poi) for poi in found] == [ROWS[row] for row in rows]
    assert candidates.scores.tolist() == scores.tolist()


@pytest.mark.parametrize("depth", [1, 5, None])
def test_duplicates_are_one_candidate_and_share_its_logit(depth: int | None) -> None:
    fused = np.random.default_rng(0).permutation(len(ROWS)).astype(np.float64)[FIRST_ROWS]
    rows = np.argsort(-fused, kind="stable")
    numbers = np.array(FIRST_ROWS)[rows]
    reranker = RecordingReranker()
    kept, logits = CandidateTable.of_pois(table(ROWS)).rerank(reranker, QUERY, rows, fused[rows], numbers, depth)
    first = list(dict.fromkeys(numbers.tolist()))[:depth]
    assert reranker.candidates.scores.tolist() == fused[first].tolist()
    assert kept.tolist() == [row for row in rows if FIRST_ROWS[row] in first]
    assert logits.tolist() == (-fused[kept]).tolist()
