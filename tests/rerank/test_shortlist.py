"""The shortlist against a plain sort."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.examples import MOST_NUMBERS, STYLE_NAMES, network_inputs
from m3gal_cli.rerank.features import CHEAP_NAMES, FEATURE_NAMES, compute
from m3gal_cli.rerank.shortlist import SIZE, WEIGHTS, shortlist
from tests.helpers.plain_terms import ADDRESSES, QUERIES, case, context

KIND = np.random.default_rng(3).integers(0, len(ADDRESSES), 1000)


@pytest.mark.parametrize("count", [1, 16, SIZE, SIZE + 1, 1000])
def test_the_best_candidates_and_all_that_tie_with_the_last_one_are_in(count: int) -> None:
    every = context("hotel kamp", case().take(KIND[:count]))  # many candidates are equal
    found = shortlist(every)
    cheap = compute(every, CHEAP_NAMES)
    expected = [sum(WEIGHTS.get(name, 0.0) * x for name, x in zip(CHEAP_NAMES, row, strict=True)) for row in cheap]
    np.testing.assert_allclose(found.scores, expected)
    last = sorted(found.scores.tolist(), reverse=True)[:SIZE][-1]
    assert found.positions.tolist() == [i for i, score in enumerate(found.scores.tolist()) if score >= last]
    assert len(found.positions) >= min(count, SIZE)
    if count == 1000:
        assert len(found.positions) > SIZE, "equal candidates tie"


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("count", [1, 16, 1000])
def test_inputs_of_the_network_are_the_features_of_the_shortlist_and_the_style(text: str, count: int) -> None:
    query, candidates = Query(1, text, 24.91, 60.105), case().take(KIND[:count])
    every = context(query, candidates)
    inputs = network_inputs(query, candidates, every.text.frequencies)
    chosen = every.take(shortlist(every).positions)
    np.testing.assert_array_equal(inputs.features, compute(chosen))
    style = dict(zip(STYLE_NAMES, inputs.style.tolist(), strict=False))
    assert style["words"] == pytest.approx(np.log(1 + len(every.text.words)))
    assert style["length"] == pytest.approx(np.log(1 + len(every.text.folded)))
    assert style["has_units"] == any(not letter.isascii() for letter in every.text.folded)
    assert style["numbers"] == min(MOST_NUMBERS, len(every.text.numbers))
    assert style["has_location"] == 1.0
    assert style["unknown"] == every.text.unknown_share
    largest, mean = np.split(inputs.style[len(STYLE_NAMES) :], 2)
    np.testing.assert_allclose(largest, inputs.features.max(axis=0))
    np.testing.assert_allclose(mean, inputs.features.mean(axis=0))
    assert len(largest) == len(FEATURE_NAMES)
