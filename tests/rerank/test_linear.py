"""The linear reranker, its file of weights, and the document frequencies of an index."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.errors import InputError
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.features import FEATURE_NAMES, FeatureExtractor
from m3gal_cli.rerank.linear import LinearReranker
from m3gal_cli.rerank.reranker import probabilities
from m3gal_cli.rerank.weights import BEFORE_TRAINING_FILE, LEGACY_FEATURES, RerankerWeights, delete_weights
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from tests.helpers.toy_models import reranker_weights

ADDRESSES = ["星光广场,商场,文三路1号", "药房，医疗,文三路9号", "药房，医疗,文三路9号", "停车场", "!!"]
CANDIDATES = Candidates(
    ADDRESSES, np.array([0.5, 0.25, 0.25, -0.5, 0]), np.array([120.0, 120.001, 120.001, 179.9, 120.0]), np.full(5, 30.0)
)
FREQUENCIES = DocumentFrequencies.of([*ADDRESSES, "文三路", "别的"])
QUERY = Query(1, "星光广场对面药房", 120.01, 30.0)


def test_logits_are_weighted_sums_of_features() -> None:
    weights = dict(zip(FEATURE_NAMES, np.linspace(0.1, 1.3, len(FEATURE_NAMES)).tolist(), strict=True))
    features = FeatureExtractor(FREQUENCIES).features(QUERY, CANDIDATES)
    logits = LinearReranker(weights, FREQUENCIES).score(QUERY, CANDIDATES)
    np.testing.assert_allclose(logits, features @ np.array(list(weights.values())))
    assert logits[1] == logits[2], "equal candidates"
    del weights["query_coverage"]
    reranker = LinearReranker(weights, FREQUENCIES)
    logits = reranker.score(QUERY, CANDIDATES)
    np.testing.assert_allclose(logits, np.delete(features, 1, axis=1) @ np.array(list(weights.values())))
    assert reranker.score(QUERY, Candidates([], *np.zeros((3, 0)))).shape == (0,)


def test_unknown_features_are_named() -> None:
    with pytest.raises(InputError, match="unknown features: dense, closeness"):
        LinearReranker({"dense": 1.0, "closeness": 1.0, "dense_score": 1.0}, FREQUENCIES)


def test_probabilities_are_a_softmax() -> None:
    assert probabilities(np.zeros(0)).shape == (0,)
    np.testing.assert_allclose(probabilities(np.array([1000.0, 1000.0, -1000.0])), [0.5, 0.5, 0.0])
    np.testing.assert_allclose(probabilities(np.log([1.0, 2.0, 5.0])), [1 / 8, 2 / 8, 5 / 8])


def test_weights_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    assert RerankerWeights.load(tmp_path) is None
    weights = reranker_weights(64, dense_score=1.0, query_coverage=0.5, first_half_match=-2.0)
    before = replace(weights, queries_before_training=500)
    weights.save(tmp_path)
    before.save(tmp_path, BEFORE_TRAINING_FILE)
    assert (RerankerWeights.load(tmp_path), RerankerWeights.load(tmp_path, BEFORE_TRAINING_FILE)) == (weights, before)
    delete_weights(tmp_path)
    assert RerankerWeights.load(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 9}, "format 9"),
        ({"weights": {"dense": 1.0}}, "unknown features: dense"),
        ({"weights": {"dense_score": float("nan")}}, "not a finite number"),
        ({"weights": [1.0]}, ""),
        (None, ""),
    ],
)
def test_a_damaged_file_of_weights_is_named(tmp_path: Path, change: Any, problem: str) -> None:
    reranker_weights(dense_score=1.0).save(tmp_path)
    path = tmp_path / "reranker.json"
    content = json.loads(path.read_text())
    path.write_text("{" if change is None else json.dumps(content | change if isinstance(change, dict) else change))
    with pytest.raises(InputError, match="cannot be read") as error:
        RerankerWeights.load(tmp_path)
    assert str(path) in str(error.value)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("old", "name"), [("hybrid.json", "reranker.json"), ("hybrid_before.json", BEFORE_TRAINING_FILE)]
)
def test_files_with_the_old_name_are_read_with_one_message(tmp_path: Path, old: str, name: str) -> None:
    values = dict(zip(LEGACY_FEATURES, range(13), strict=True))
    content = {"format": 2, "weights": values, "queries": 64, "before": 500}
    (tmp_path / old).write_text(json.dumps(content))
    messages: list[str] = []
    weights = RerankerWeights.load(tmp_path, name, messages.append)
    assert weights is not None
    assert (weights.queries, weights.queries_before_training) == (64, 500)
    assert weights.by_name == {LEGACY_FEATURES[name]: value for name, value in values.items()}
    assert len(messages) == 1
    assert "deprecated" in messages[0]
    weights.save(tmp_path, name)
    assert not (tmp_path / old).exists(), "two files could contradict each other"
    assert RerankerWeights.load(tmp_path, name, messages.append) == weights
    assert len(messages) == 1
