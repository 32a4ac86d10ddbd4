"""The fit of the reranker weights: the minimum of its loss."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.rerank.features import FEATURE_NAMES, FEATURES
from m3gal_cli.rerank.fit import PRIOR_PENALTY, RIDGE, Example, fit
from tests.helpers.toy_models import reranker_weights

F = len(FEATURES)
TRUE = reranker_weights(
    dense_score=2.0, name_coverage=1.0, first_half_match=-0.7, second_half_match=0.5, nearness_2500m=1.5
).vector
SIGNED = np.array([feature.signed for feature in FEATURES.values()])


def examples(count: int, seed: int = 0, true: np.ndarray = TRUE) -> list[Example]:
    """Candidates with a gold that is drawn from a softmax with known weights."""
    draw, out = np.random.default_rng(seed), []
    for _ in range(count):
        features = draw.standard_normal((int(draw.integers(3, 12)), F))
        share = np.exp(features @ true)
        gold = draw.choice(len(features), p=share / share.sum())
        out.append(Example(features, np.arange(len(features)) == gold))
    return out


def loss(weights: np.ndarray, given: list[Example]) -> float:
    total = 0.0
    for example in given:
        share = np.exp(example.features @ weights)
        total -= np.log(share[example.gold].sum() / share.sum())
    return total / len(given)


def test_the_true_weights_are_recovered() -> None:
    np.testing.assert_allclose(fit(examples(4000), ridge=0.0), TRUE, atol=0.15)


@pytest.mark.parametrize("prior", [None, np.linspace(0.2, 1.4, F)])
def test_no_step_from_the_result_lowers_the_loss(prior: np.ndarray | None) -> None:
    given = [*examples(60, 3), Example(np.eye(F)[:4], np.array([True, False, True, False]))]
    weights = fit(given, prior=prior)

    def penalised(at: np.ndarray) -> float:
        penalty, aim = (RIDGE, 0.0) if prior is None else (PRIOR_PENALTY, prior)
        return loss(at, given) + penalty * ((at - aim) ** 2).sum()

    for i in range(F):
        for step in (-1e-3, 1e-3):
            moved = weights.copy()
            moved[i] += step
            if not SIGNED[i]:
                moved[i] = max(0.0, moved[i])
            assert penalised(moved) >= penalised(weights) - 1e-7, FEATURE_NAMES[i]


def test_only_weights_of_signed_features_are_negative() -> None:
    weights = fit(examples(2000, 1, -np.ones(F)), ridge=0.0)
    assert (weights[SIGNED] < -0.3).all()
    assert (weights[~SIGNED] == 0).all()
