"""The network against the module of torch that is trained, and the logits of all candidates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.examples import network_inputs
from m3gal_cli.rerank.features import FEATURE_NAMES
from m3gal_cli.rerank.network import PARAMETER_SHAPES, NetworkReranker, forward
from m3gal_cli.rerank.reranker import Logits, probabilities
from m3gal_cli.training.network_fit import Network
from tests.helpers.plain_terms import ADDRESSES, QUERIES, case, context

DRAW = np.random.default_rng(5)
ARRAYS = {name: DRAW.normal(0, 0.3, shape).astype(np.float32) for name, shape in PARAMETER_SHAPES.items()}
KIND = DRAW.integers(0, len(ADDRESSES), 1000)


def some(count: int) -> Candidates:
    """Candidates of random scores; some are equal."""
    taken = case().take(KIND[:count])
    scores = np.round(np.random.default_rng(6).uniform(-1, 1, count), 2)
    return Candidates(scores, taken.sparse_scores, taken.terms, taken.lng, taken.lat)


def test_the_shapes_are_those_of_the_trained_network() -> None:
    network = Network(len(FEATURE_NAMES), PARAMETER_SHAPES["style.weight"][1])
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == PARAMETER_SHAPES


@pytest.mark.parametrize("text", QUERIES)
def test_logits_are_those_of_the_trained_network(text: str) -> None:
    every = context(text, case())
    inputs = network_inputs(every.query, every.candidates, every.text.frequencies)
    network = Network(inputs.features.shape[1], inputs.style.shape[0]).double()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in ARRAYS.items()})
    with torch.no_grad():
        expected, no_match = network(*(torch.from_numpy(x)[None] for x in (inputs.features, inputs.style)))
    logits, found = forward({k: v.astype(np.float64) for k, v in ARRAYS.items()}, inputs.features, inputs.style)
    np.testing.assert_allclose(logits, expected[0].numpy(), rtol=1e-6, atol=1e-6)
    assert found == pytest.approx(float(no_match[0]), rel=1e-6)


@pytest.mark.parametrize("text", ["hotel kamp", "莫干山路东村43", ""])
def test_candidates_outside_the_shortlist_stay_below_and_keep_their_order(text: str) -> None:
    every = context(text, some(1000))
    logits = NetworkReranker(ARRAYS, every.text.frequencies).score(every.query, every.candidates)
    inputs = network_inputs(every.query, every.candidates, every.text.frequencies)
    inside = np.isin(np.arange(1000), inputs.shortlist.positions)
    assert 100 <= inside.sum() < 1000
    assert logits.candidates[~inside].max() <= logits.candidates[inside].min() - 12
    order = np.argsort(-inputs.shortlist.scores[~inside], kind="stable")
    assert (np.diff(logits.candidates[~inside][order]) <= 0).all()
    expected = forward({k: v.astype(np.float64) for k, v in ARRAYS.items()}, inputs.features, inputs.style)
    assert logits.candidates[inside].tolist() == expected[0].tolist()
    assert logits.no_match == expected[1]


@pytest.mark.parametrize("text", ["hotel kamp", "王府景 5", ""])
def test_equal_candidates_have_equal_logits_bit_for_bit(text: str) -> None:
    every = context(Query(1, text, 24.91, 60.105), case().take(KIND))
    logits = NetworkReranker(ARRAYS, every.text.frequencies).score(every.query, every.candidates).candidates
    for i in range(len(ADDRESSES)):
        assert len(set(logits[i == KIND].tolist())) == 1
    assert len(set(logits.tolist())) > 10


@pytest.mark.parametrize("count", [0, 1])
def test_few_candidates_have_finite_logits(count: int) -> None:
    every = context("hotel", case().take(np.arange(count)))
    logits = NetworkReranker(ARRAYS, every.text.frequencies).score(every.query, every.candidates)
    assert logits.candidates.shape == (count,)
    assert np.isfinite([*logits.candidates, logits.no_match]).all()


def test_probabilities_are_a_softmax_over_candidates_and_no_match() -> None:
    assert probabilities(Logits(np.zeros(0), 0.0)).shape == (0,)
    np.testing.assert_allclose(probabilities(Logits(np.log([1.0, 2.0, 4.0]), 0.0)), [1 / 8, 2 / 8, 4 / 8])
    np.testing.assert_allclose(probabilities(Logits(np.array([1000.0, -1000.0]), 1000.0)), [0.5, 0.0])
    assert probabilities(Logits(np.array([-1000.0]), 1000.0))[0] == 0.0
