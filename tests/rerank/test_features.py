"""Properties of every feature."""

from __future__ import annotations

import numpy as np
import pytest

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates
from m3gal_cli.rerank.features import CHEAP_NAMES, FEATURE_NAMES, FEATURES, compute
from m3gal_cli.rerank.shortlist import WEIGHTS
from tests.helpers.plain_terms import ADDRESSES, QUERIES, case, context


def query(text: str) -> Query:
    return Query(1, text, 24.91, 60.105)


def rows_of(candidates: Candidates, rows: np.ndarray) -> Candidates:
    return candidates.take(rows.astype(np.int64))


@pytest.mark.parametrize("text", QUERIES)
def test_features_move_with_their_candidates(text: str) -> None:
    candidates = case()
    order = np.random.default_rng(1).permutation(len(candidates))
    expected = compute(context(query(text), candidates))[order]
    np.testing.assert_allclose(compute(context(query(text), rows_of(candidates, order))), expected, atol=1e-5)


@pytest.mark.parametrize("text", QUERIES)
def test_equal_candidates_have_equal_features_bit_for_bit(text: str) -> None:
    kind = np.random.default_rng(2).integers(0, len(ADDRESSES), 1000)
    features = compute(context(query(text), rows_of(case(), kind)))
    assert np.isfinite(features).all()
    for i in range(len(ADDRESSES)):
        own = features[kind == i]
        assert (own == own[:1]).all()


@pytest.mark.parametrize("text", ["", "?!"])
def test_a_query_without_letters_matches_no_name_with_letters(text: str) -> None:
    features = compute(context(text, case(ADDRESSES[:13])))
    kept = ("dense_score", "sparse_score", "unmatched_numbers", "prefix_similarity")
    assert not features[:, [name not in kept for name in FEATURE_NAMES]].any()


@pytest.mark.parametrize("row", range(len(ADDRESSES)))
def test_one_candidate_has_the_features_that_it_has_among_others_except_those_of_neighbours(row: int) -> None:
    for text in QUERIES[:6]:
        one, every = (context(text, rows_of(case(), np.array(rows))) for rows in ([row], range(len(ADDRESSES))))
        found, expected = compute(one)[0], compute(every)[row]
        same = [not name.startswith("neighbour") and "word" not in name for name in FEATURE_NAMES]
        np.testing.assert_allclose(found[same], expected[same], atol=1e-12)
        assert not found[[name.startswith("neighbour") for name in FEATURE_NAMES]].any()


def test_columns_are_scaled_and_in_the_order_of_the_names() -> None:
    every = context(query("hotel kamp"), case())
    names = ("name_part", "dense_score")
    expected = [FEATURES[name].compute(every) * FEATURES[name].scale for name in names]
    np.testing.assert_array_equal(compute(every, names), np.stack(expected, axis=1))
    assert set(WEIGHTS) <= set(CHEAP_NAMES)


def test_a_dense_score_that_is_not_finite_counts_as_the_lowest_cosine() -> None:
    candidates = case()
    scores = np.array(candidates.scores, np.float64)
    scores[:3] = np.nan, np.inf, -np.inf
    broken = Candidates(scores, candidates.sparse_scores, candidates.terms, candidates.lng, candidates.lat)
    found = compute(context(query("hotel kamp"), broken), ["dense_score"])[:, 0]
    expected = np.append([-1.0] * 3, scores[3:]) * FEATURES["dense_score"].scale
    np.testing.assert_allclose(found, expected)
