"""Finetuning a cross-encoder: each query's candidates, read together with it, in the order of their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from m3gal_cli.config.schema import Config
from m3gal_cli.core.cross import PairTokenizer
from m3gal_cli.core.cross_checkpoint import CrossCheckpoint
from m3gal_cli.core.losses import positives_cross_entropy, share_right
from m3gal_cli.data.reading import reads
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.rerank import evaluate_cross
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.retrieval.cross import CrossScorer
from m3gal_cli.training.candidates import CandidateLists
from m3gal_cli.training.task import Forward, Group, Monitor, trainable

STAGE = "reranker"


class CrossLosses(NamedTuple):
    """The mean loss of a batch."""

    cross: Tensor


class RerankerTask:
    """Softmax over the scores of each query's candidates, cross entropy on the positives; lists may be ragged.

    Args:
        records: candidate records. As the model sees nothing but the texts, negatives that read the same count once,
            and those that read like a positive are left out.
    """

    stage = STAGE
    losses: tuple[str, ...] = CrossLosses._fields
    judged = minimised = "cross"

    def __init__(self, checkpoint: CrossCheckpoint, records: Sequence[Record], config: Config) -> None:
        if config.optim.in_batch:
            what = "optim.in_batch would have a cross-encoder read every query with every other's candidates"
            raise InputError(what, hint="Set optim.in_batch=false; --mine RUN brings hard negatives.")
        self.model, self.config = checkpoint.model, config
        self.tokenize = PairTokenizer(checkpoint.tokenizer, checkpoint.model)
        self.lists = CandidateLists([_readable(r) for r in records])
        cut = config.data.max_words
        self.queries = [r.query[:cut] for r in records]
        self.passages = [p.text[:cut] for p in self.lists.passages]
        self.epoch = 0
        self.monitor: Monitor = {}

    @property
    def rows(self) -> int:
        return len(self.queries)

    def groups(self) -> list[Group]:
        optim = self.config.optim
        return [Group("text", trainable(self.model, optim.freeze), optim.lr, optim.weight_decay)]

    def unreached(self) -> list[nn.Module]:
        return []

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def step(
        self, forward: Forward, rows: NDArray[np.int64], device: torch.device, own: slice = slice(None)
    ) -> CrossLosses:
        optim = self.config.optim
        lists = [self.lists.drawn(int(i), self.epoch, optim.negatives, self.config.seed) for i in rows[own]]
        pairs = [(self.queries[i], self.passages[c]) for i, found in zip(rows[own], lists, strict=True) for c in found]
        batch = self.tokenize(pairs).batch(np.arange(len(pairs)), device, optim.encode_chunk)
        scores: Any = forward(batch)
        positive, there = self._masks(rows[own], lists)
        positive, there = (x.to(device, non_blocking=True) for x in (positive, there))
        logits = scores.new_zeros(there.shape).masked_scatter(there, scores)
        count = there.float()
        right = share_right(logits, positive, count)
        self.monitor = {"queue_accuracy": right, "tokens": scores.new_tensor(float(batch.tokens))}
        return CrossLosses(positives_cross_entropy(logits, positive, count))

    def _masks(self, rows: NDArray[np.int64], lists: list[list[int]]) -> tuple[Tensor, Tensor]:
        """Which columns are a query's positives, and which are candidates at all.

        Shape:
            -> (B, C) bool, (B, C) bool, C the longest list; positives come first.
        """
        columns = torch.arange(max(map(len, lists)))
        positives = torch.tensor([len(self.lists.positives[int(i)]) for i in rows])
        return columns < positives[:, None], columns < torch.tensor([len(found) for found in lists])[:, None]

    def finish(self) -> None:
        """Nothing: there is no queue."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing beyond the model: draws depend on seed, epoch and row alone."""


def _readable(record: Record) -> Record:
    """A record without the negatives that the texts alone cannot tell from a positive, or from each other."""
    taken = {reads(p.text) for p in record.positives}
    distinct: dict[str, Passage] = {}
    for p in record.negatives:
        if reads(p.text) not in taken:
            distinct.setdefault(reads(p.text), p)
    return replace(record, negatives=list(distinct.values()))


def validation_of_cross(
    checkpoint: CrossCheckpoint, records: Sequence[Record], config: Config, device: torch.device
) -> Callable[[], Evaluation]:
    """A function that gives the candidate metrics of the model as it then stands, back in training mode."""
    scorer = CrossScorer(checkpoint, device, config.eval.batch_tokens, config.eval.precision)

    def validate() -> Evaluation:
        found = evaluate_cross(records, scorer, config.data.max_words, config.seed)
        checkpoint.model.train()
        return found

    return validate
