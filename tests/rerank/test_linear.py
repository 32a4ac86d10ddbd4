"""The score of candidates; weights that are kept and refused; the lexicon of an index."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.errors import InputError
from m3gal_cli.rerank.features import FEATURES, Candidates, features
from m3gal_cli.rerank.linear import BEFORE, LinearReranker, RerankerWeights, open_document_frequencies, probabilities
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from tests.helpers.toy_models import weights_of
from tests.helpers.vector_indexes import MakeIndex, clustered, make_index  # noqa: F401

TEXTS = ["星光广场,商场,文三路1号", "药房，医疗,文三路9号", "药房，医疗,文三路9号", "停车场", "!!"]
FOUND = Candidates(
    TEXTS, np.array([0.5, 0.25, 0.25, -0.5, 0.0]), np.array([120.0, 120.001, 120.001, 179.9, 120.0]), np.full(5, 30.0)
)
LEXICON = DocumentFrequencies.of([*TEXTS, "文三路", "别的"])
QUERY = Query(1, "星光广场对面药房", 120.01, 30.0)


def test_equal_candidates_score_equal_and_none_at_all_is_no_error() -> None:
    weights = RerankerWeights(tuple(np.linspace(0.1, 1.3, len(FEATURES))), 30)
    reranker = LinearReranker(weights, LEXICON)
    scores = reranker.scores(QUERY, FOUND)
    assert scores[1] == scores[2]
    np.testing.assert_allclose(scores, features(QUERY, FOUND, LEXICON) @ np.array(weights.values))
    empty = Candidates([], np.zeros(0), np.zeros(0), np.zeros(0))
    assert reranker.scores(QUERY, empty).shape == (0,)
    assert probabilities(np.zeros(0)).shape == (0,)
    np.testing.assert_allclose(probabilities(np.array([1000.0, 1000.0, -1000.0])), [0.5, 0.5, 0.0])
    assert reranker.scores(Query(1, "?!"), FOUND).shape == (5,)


def test_weights_are_kept_and_damaged_ones_named(tmp_path: Path) -> None:
    assert RerankerWeights.load(tmp_path) is None
    weights = weights_of(64, dense=1.0, coverage=0.5, name=0.25, opening=-2.0)
    weights.save(tmp_path)
    assert RerankerWeights.load(tmp_path) == weights
    before = replace(weights, before=500)
    before.save(tmp_path, BEFORE)
    assert (RerankerWeights.load(tmp_path, BEFORE), RerankerWeights.load(tmp_path)) == (before, weights)
    path = tmp_path / "hybrid.json"
    good = json.loads(path.read_text())
    for broken in ("{", "[]", json.dumps(good | {"format": 9}), json.dumps(good | {"weights": {"dense": 1.0}})):
        path.write_text(broken)
        with pytest.raises(InputError, match="cannot be read") as refused:
            RerankerWeights.load(tmp_path)
        assert "hybrid.json" in str(refused.value)
    path.write_text(json.dumps(good).replace("0.25", "NaN"))
    with pytest.raises(InputError, match="no number"):
        RerankerWeights.load(tmp_path)


def test_the_lexicon_of_an_index_is_made_once_and_again_where_it_is_damaged(make_index: MakeIndex) -> None:  # noqa: F811
    index = make_index(clustered(40, 8, 2))
    first = open_document_frequencies(index)
    wanted = DocumentFrequencies.of(index.pois["address"].to_pylist())
    assert first.codes.tolist() == wanted.codes.tolist()
    path = index.path / "lexicon.npz"
    written = path.stat().st_mtime_ns
    assert open_document_frequencies(index).rows.tolist() == wanted.rows.tolist()
    assert path.stat().st_mtime_ns == written
    whole = path.read_bytes()
    for damaged in (b"no archive", whole[:100], whole[:-30], b""):
        path.write_bytes(damaged)
        assert open_document_frequencies(index).size == 40
        assert DocumentFrequencies.load(path).size == 40
    DocumentFrequencies.of(["another", "table"]).save(path)
    assert open_document_frequencies(index).size == 40
