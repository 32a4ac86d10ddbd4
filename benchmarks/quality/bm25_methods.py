"""Baselines without a trained encoder: BM25, and BM25 with the distance to the query location."""

from __future__ import annotations

from quality.bm25 import Bm25Index
from quality.evaluation_set import EvaluationSet, bm25_scores, fit_weights, median_latency_ms, weighted_sum
from quality.interface import Job, Result


def bm25(job: Job) -> Result:
    """Rank by BM25 over character 1-2-grams."""
    test = EvaluationSet(job.fold.test, job.fold.pois)
    index = Bm25Index(test.texts)
    latency = median_latency_ms(lambda i: index.scores(test.queries[i]).argmax(), len(test.records))
    return Result({"": test.evaluate(bm25_scores(test, index), latency)})


def bm25_distance(job: Job) -> Result:
    """Rank by BM25 + weight * exp(-distance / 2 km), with the weight fitted on the validation queries."""
    val, test = EvaluationSet(job.fold.val, job.fold.pois), EvaluationSet(job.fold.test, job.fold.pois)
    weights = fit_weights(val, bm25_scores(val, Bm25Index(val.texts)), [val.proximity()])
    index = Bm25Index(test.texts)
    scores = weighted_sum(bm25_scores(test, index), [test.proximity()], weights)

    def answer(i: int) -> int:
        own = index.scores(test.queries[i]).astype(float)
        return int((own / max(own.max(), 1e-12) + weights[0] * test.proximity_of(i)).argmax())

    return Result({"": test.evaluate(scores, median_latency_ms(answer, len(test.records)), weights)})
