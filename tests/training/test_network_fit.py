"""The fit of the reranker network on examples whose best parameters are known."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.rerank.network import forward
from m3gal_cli.training.network_fit import Example, fit_network

FEATURES, CANDIDATES = 3, 6
STYLES = 2 + 2 * FEATURES  # the fit takes the last ones for summaries of the features


def example(rng: np.random.Generator, meant: bool) -> Example:
    """A query whose gold has the feature 1 = 4. In style 0 = 5, it is feature 2 instead."""
    features, style = rng.normal(0.0, 0.3, (CANDIDATES, FEATURES)), np.zeros(STYLES)
    gold = np.zeros(CANDIDATES, bool)
    second = rng.random() < 0.5
    style[0], style[1] = 5.0 * second, 5.0 * meant
    if meant:
        gold[rng.integers(CANDIDATES)] = True
    features[gold, 2 if second else 1] += 4.0
    features[rng.integers(CANDIDATES), 1 if second else 2] += 4.0  # would win by the other feature
    return Example(features, style, gold)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    rng = np.random.default_rng(0)
    return [example(rng, i % 3 > 0) for i in range(1200)]


def probability_of_truth(arrays: dict[str, np.ndarray], one: Example) -> float:
    logits, no_match = forward(arrays, np.asarray(one.features), np.asarray(one.style))
    exps = np.exp(np.append(logits, no_match))
    return float(exps[np.append(one.gold, not one.gold.any())].sum() / exps.sum())


def test_the_network_weighs_features_by_style_and_knows_no_match(examples: list[Example]) -> None:
    arrays = fit_network(examples[:1000], seed=0)
    right = [probability_of_truth(arrays, one) > 0.5 for one in examples[1000:]]
    assert np.mean(right) > 0.97
    again = fit_network(examples[:1000], seed=0)
    assert all(np.array_equal(arrays[name], again[name]) for name in arrays)


def test_parameters_stay_near_the_prior_with_few_examples_and_leave_it_with_many(examples: list[Example]) -> None:
    prior = fit_network(examples, seed=0)
    turned = [Example(one.features[:, [0, 2, 1]], one.style, one.gold) for one in examples]

    def moved(count: int) -> float:
        fitted = fit_network(turned[:count], seed=1, prior=prior)
        return float(sum(((fitted[name] - prior[name]) ** 2).sum() for name in prior))

    assert moved(1) < moved(1000)
    unchanged = fit_network(examples[:50], seed=1, prior=prior)
    assert np.mean([probability_of_truth(unchanged, one) > 0.5 for one in examples]) > 0.97


def test_the_state_of_other_random_numbers_does_not_change(examples: list[Example]) -> None:
    import torch

    before = torch.get_rng_state()
    fit_network(examples[:10], seed=3)
    assert torch.equal(before, torch.get_rng_state())
