"""Examples of the packaged fit that later fits see again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.rerank.network import PARAMETER_SHAPES, forward
from m3gal_cli.rerank.weights import RerankerWeights
from m3gal_cli.training.network_fit import Example
from m3gal_cli.training.rehearsal import CANDIDATES, EXAMPLES, STEPS, load_rehearsal, save_rehearsal
from tests.helpers.toy_models import reranker_weights

FEATURES, STYLES = PARAMETER_SHAPES["linear.weight"][1], PARAMETER_SHAPES["style.weight"][1]
HALF_STEP = 0.5 / STEPS


def example(rng: np.random.Generator, count: int, gold: int | None) -> Example:
    marks = np.zeros(count, bool)
    if gold is not None:
        marks[gold] = True
    return Example(rng.normal(0.0, 2.0, (count, FEATURES)), rng.normal(0.0, 1.0, STYLES), marks)


def test_the_gold_and_the_best_other_candidates_are_kept_in_8_bits(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = reranker_weights(dense_score=1.0)
    examples = [example(rng, 5 + 7 * i, [None, 4][i % 2]) for i in range(12)]
    save_rehearsal(tmp_path, examples, weights.arrays, seed=0)
    loaded = load_rehearsal(tmp_path)
    assert len(loaded) == len(examples)
    for one in loaded:
        source = next(e for e in examples if np.allclose(e.style, one.style, atol=2e-3))
        logits = forward({k: v.astype(float) for k, v in weights.arrays.items()}, source.features, source.style)[0]
        best = sorted(range(len(logits)), key=lambda row: (not source.gold[row], -logits[row]))[:CANDIDATES]
        rows = sorted(best)
        np.testing.assert_allclose(one.features, source.features[rows], atol=HALF_STEP + 1e-9)
        assert one.gold.tolist() == source.gold[rows].tolist()


def test_a_value_outside_the_range_of_8_bits_becomes_its_limit(tmp_path: Path) -> None:
    features = np.full((2, FEATURES), 1000.0) * np.array([[1.0], [-1.0]])
    save_rehearsal(tmp_path, [Example(features, np.zeros(STYLES), np.zeros(2, bool))], reranker_weights().arrays, 0)
    assert np.abs(load_rehearsal(tmp_path)[0].features).max() == pytest.approx(127 / STEPS)


def test_the_packaged_examples_fit_the_packaged_reranker() -> None:
    loaded, weights = load_rehearsal(PACKAGED_MODEL), RerankerWeights.load(PACKAGED_MODEL)
    assert weights is not None
    assert len(loaded) == EXAMPLES
    assert all(one.features.shape[1] == FEATURES and one.style.shape == (STYLES,) for one in loaded)
    arrays = {name: value.astype(float) for name, value in weights.arrays.items()}
    right = []
    for one in loaded:
        logits, no_match = forward(arrays, one.features, one.style)
        truth = np.append(one.gold, not one.gold.any())
        right.append(truth[np.argmax(np.append(logits, no_match))])
    assert np.mean(right) > 0.8, "they are examples of its own fit"
