"""What needs no model of ours: BM25, and BM25 with the distance from where the query was typed."""

from __future__ import annotations

from m3gal_cli.text.bm25 import LexicalIndex
from quality.board import Board, learn_weights, lexical_scores, milliseconds, weighted
from quality.job import Job, Result


def bm25(job: Job) -> Result:
    """BM25 over character 1-2-grams of the table."""
    board = Board(job.fold.test, job.fold.pois)
    lexical = LexicalIndex(board.texts)
    ms = milliseconds(lambda i: lexical.scores(board.queries[i]).argmax(), len(board.records))
    return Result({"": board.judge(lexical_scores(board, lexical), ms)})


def bm25_distance(job: Job) -> Result:
    """BM25 + weight * exp(-distance / 2 km), the weight learned on the validation queries."""
    val, test = Board(job.fold.val, job.fold.pois), Board(job.fold.test, job.fold.pois)
    weights = learn_weights(val, lexical_scores(val, LexicalIndex(val.texts)), [val.nearness()])
    lexical = LexicalIndex(test.texts)
    scores = weighted(lexical_scores(test, lexical), [test.nearness()], weights)

    def ask(i: int) -> int:
        found = lexical.scores(test.queries[i]).astype(float)
        return int((found / max(found.max(), 1e-12) + weights[0] * test.nearness_of(i)).argmax())

    return Result({"": test.judge(scores, milliseconds(ask, len(test.records)), weights)})
