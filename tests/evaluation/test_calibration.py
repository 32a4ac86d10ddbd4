"""Calibration of first answers against scikit-learn and counts by hand; and in the evaluation, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_auc_score

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.calibration import (
    Confidences,
    answered_at_precision,
    calibration_of,
    expected_calibration_error,
    reliability_bins,
    roc_auc,
)
from m3gal_cli.evaluation.reliability_diagram import reliability_diagram
from m3gal_cli.evaluation.retrieval import RetrievalOptions, evaluate_retrieval
from tests.helpers.bruteforce import DISTINCT, ROWS, poi, records, table
from tests.helpers.reranked import rerank
from tests.helpers.toy_models import ToyEncoder, reranker_weights


def confidences(values: list[float], right: str, answerable: str = "") -> Confidences:
    """Return confidences from numbers and strings of 1 and 0; right answers are answerable by default."""
    flags = [np.array([c == "1" for c in text]) for text in (right, answerable or right)]
    return Confidences(np.array(values), *flags)


def random_confidences(seed: int, count: int = 400) -> Confidences:
    """Return confidences with many ties."""
    draw = np.random.default_rng(seed)
    values, answerable = draw.integers(0, 41, count) / 40, draw.random(count) < 0.5
    return Confidences(values, answerable & (draw.random(count) < values**0.1), answerable)


def test_the_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    found = calibration_of(confidences([0.05, 0.15, 0.12, 0.95, 1.0, 0.9, 0.1], "0010110", "0010111"))
    bins = {one.low: (one.count, one.confidence, one.right) for one in found.bins if one.count}
    assert bins == {
        0.0: (1, pytest.approx(0.05), 0.0),
        0.1: (3, pytest.approx(0.37 / 3), pytest.approx(1 / 3)),  # 0.1 belongs to the upper bin
        0.9: (3, pytest.approx(0.95), pytest.approx(2 / 3)),  # 1.0 belongs to the last bin
    }
    assert found.ece == pytest.approx((0.05 + (1 - 0.37) + (2.85 - 2)) / 7)
    assert (found.n_answerable, found.n_unanswerable) == (4, 3)
    assert [(one.confidence, one.right) for one in found.bins if not one.count] == [(None, None)] * 7


def test_a_calibrated_model_has_no_error() -> None:
    values = np.repeat([0.25, 0.75], 4)
    right = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    assert expected_calibration_error(reliability_bins(values, right)) == pytest.approx(0.0)


@pytest.mark.parametrize("seed", range(5))
def test_the_area_under_the_curve_is_that_of_scikit_learn(seed: int) -> None:
    values, _, answerable = random_confidences(seed)
    expected = roc_auc_score(answerable, values)
    assert roc_auc(values[answerable], values[~answerable]) == pytest.approx(expected, abs=1e-12)
    assert calibration_of(random_confidences(seed)).auc == pytest.approx(expected, abs=1e-12)


def test_without_unanswerable_queries_there_is_no_area() -> None:
    assert calibration_of(confidences([0.5, 0.6], "10", "11")).auc is None
    assert calibration_of(confidences([0.5, 0.6], "00", "00")).auc is None


@pytest.mark.parametrize("precision", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_lowest_one_with_the_precision_of_scikit_learn(seed: int, precision: float) -> None:
    found = random_confidences(seed)
    share, threshold = answered_at_precision(found, precision)
    shares, _, thresholds = precision_recall_curve(found.right, found.values)
    reached = [t for t, p in zip(thresholds, shares[:-1], strict=True) if p >= precision]
    if not reached:
        assert (share, threshold) == (0.0, None)
        return
    assert threshold == pytest.approx(min(reached))
    answered = [v >= min(reached) for v, a in zip(found.values, found.answerable, strict=True) if a]
    assert share == pytest.approx(sum(answered) / len(answered))


def test_equal_confidences_are_answered_together() -> None:
    # At 0.9 one of two answers is right, whatever their order; three of four at 0.8.
    for order in ([0, 1, 2, 3], [1, 0, 3, 2]):
        found = confidences([0.9, 0.9, 0.8, 0.8], "1011", "1111")
        shuffled = Confidences(*(part[order] for part in found))
        assert answered_at_precision(shuffled, 0.75) == (1.0, 0.8)
        assert answered_at_precision(shuffled, 0.9) == (0.0, None)
    assert answered_at_precision(confidences([0.9], "0", "0"), 0.0) == (0.0, None), "no answerable query"


def test_the_diagram_has_a_bar_for_each_bin_with_answers() -> None:
    found = calibration_of(confidences([0.05, 0.15, 0.12, 0.95, 1.0, 0.9, 0.1], "0010110"))
    text = reliability_diagram(found)
    assert text.count('class="bar"') == text.count('class="mean"') == 3
    assert "0.9 to 1.0: 3 answers, 0.667 right, mean 0.950" in text
    assert 'height="140.0"' in text  # 2/3 of the 210 pixels of the axis


WEIGHTS = reranker_weights(dense_score=0.02, name_coverage=0.3, neighbour_coverage=0.2, nearness_2500m=0.5)
UNSURE = reranker_weights(dense_score=0.02, name_coverage=0.3, neighbour_coverage=0.2, nearness_2500m=0.5)
UNSURE.arrays["no_match.2.bias"][0] = 1.0  # of the same size as the other logits


def first_probability(record: Record, rows: list[int]) -> float:
    """Return the largest probability of candidates by a reranker that sees nothing else."""
    addresses = [ROWS[row].text for row in DISTINCT]
    logits, no_match = rerank(UNSURE, ToyEncoder(), addresses, record, [ROWS[row] for row in rows])
    return float(np.exp(logits.max()) / (np.exp(logits).sum() + np.exp(no_match)))


def test_each_query_counts_with_its_gold_and_once_more_without() -> None:
    queries = records(30, seed=5)
    options = RetrievalOptions(reranker=UNSURE, calibration=True)
    evaluation = evaluate_retrieval(queries, table(ROWS), ToyEncoder(), options)
    values, right, answerable = [], [], []
    for i, record in enumerate(queries):
        gold = [row for row in DISTINCT if ROWS[row].key in record.gold]
        values.append(first_probability(record, DISTINCT))
        right.append(evaluation.ranks["reranked"][i] == 1)
        answerable.append(bool(gold))
        if gold:
            values.append(first_probability(record, [row for row in DISTINCT if row not in gold]))
            right.append(False)
            answerable.append(False)
    assert 30 < len(values) < 60, "some queries have no gold in the table"
    expected = calibration_of(Confidences(np.array(values), np.array(right), np.array(answerable)))
    found = evaluation.calibration
    assert found is not None
    assert (found.n_answerable, found.n_unanswerable) == (expected.n_answerable, expected.n_unanswerable)
    assert (found.ece, found.auc) == (pytest.approx(expected.ece), pytest.approx(expected.auc))
    assert [one.count for one in found.bins] == [one.count for one in expected.bins]
    assert evaluation.to_json("run")["calibration"]["ece"] == found.ece


def test_a_query_without_other_candidates_has_no_answer_when_its_gold_is_out() -> None:
    evaluation = evaluate_retrieval(
        [Record("typed", [poi(5)], [])],
        table([poi(5), poi(5)]),
        ToyEncoder(),
        RetrievalOptions(reranker=WEIGHTS, calibration=True),
    )
    assert evaluation.calibration is not None
    assert [one.count for one in evaluation.calibration.bins] == [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    found = evaluation.calibration
    assert (found.ece, found.auc, found.answered) == (pytest.approx(0.0, abs=1e-9), 1.0, 1.0)


def test_without_a_reranker_there_are_no_probabilities_to_calibrate() -> None:
    evaluation = evaluate_retrieval(records(5), table(ROWS), ToyEncoder(), RetrievalOptions(calibration=True))
    assert evaluation.calibration is None
    assert "calibration" not in evaluation.to_json("run")
