"""Finetuning objective: rank the candidates of a query by text and location."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.distributed import gather_with_gradient
from m3gal_cli.core.losses import Losses, candidate_losses, contrastive_accuracy, score_logits
from m3gal_cli.core.tokenizer import TextTokenizer
from m3gal_cli.data.duplicates import PlaceKey
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.errors import InputError
from m3gal_cli.training.objectives.objective import Forward, Objective, ParameterGroup, location_query, vector_monitor


class CandidateRanking(Objective):
    """Cross entropy over each query's candidates, with scores q.d/T (text) and q.g'/T (location).

    The query encoder, the key encoder and the key location encoder are trained. Candidate lists may differ in length.

    Args:
        model: The bi-encoder.
        tokenize: Its tokenizer.
        records: Candidate records; see ``number_passages``.
        config: Settings.

    Raises:
        InputError: Settings that exclude each other.
    """

    stage = "finetune"

    def __init__(self, model: M3gal, tokenize: TextTokenizer, records: Sequence[Record], config: Config) -> None:
        self.model, self.tokenize, self.config = model, tokenize, config
        cut, settings = config.data.max_chars, model.settings
        if config.optim.accumulate > 1 and config.optim.in_batch:
            what = "--accumulate splits a batch, but optim.in_batch needs the candidates of the whole batch"
            raise InputError(what, hint="Use --encode-chunk, which saves the same memory, or optim.in_batch=false.")
        self.query_rows = tokenize([r.query[:cut] for r in records], settings.query_prefix)
        passages, self.positives, self.negatives = number_passages(records)
        self.passage_rows = tokenize([p.text[:cut] for p in passages], settings.passage_prefix)
        self.texts = [p.text.strip() for p in passages]
        self.z = torch.from_numpy(settings.normalizer([p.lng for p in passages], [p.lat for p in passages]))
        self.rows, self.epoch, self.monitor = len(records), 0, {}
        model.set_trainable(self.stage)

    def groups(self) -> list[ParameterGroup]:
        """Return the group of the key location encoder and the group of both text encoders."""
        return self.parameter_groups([self.model.encoder_q, self.model.encoder_k], self.model.gc_encoder_shadow)

    def candidates(self, row: int) -> list[int]:
        """Return a query's passage numbers: positives, then all negatives or a sample of ``optim.negatives``.

        The sample depends on seed, epoch and row only, so a resumed run draws it again.
        """
        negatives, limit = self.negatives[row], self.config.optim.negatives
        if limit is not None and limit < len(negatives):
            generator = np.random.default_rng([self.config.seed, self.epoch, row])
            negatives = negatives[np.sort(generator.choice(len(negatives), limit, replace=False))]
        return self.positives[row] + negatives.tolist()

    def step(self, forward: Forward, rows: NDArray[np.int64], device: torch.device, own: slice = slice(None)) -> Losses:
        """Return the losses of a batch of queries. With ``optim.in_batch`` each query sees all candidates of the batch.

        With several processes each encodes an equal part of the batch's candidates; the vectors are then gathered.
        """
        in_batch, chunk = self.config.optim.in_batch, self.config.optim.encode_chunk
        mine = rows[own]
        lists = [self.candidates(int(i)) for i in (rows if in_batch else mine)]
        passages = list(dict.fromkeys(c for candidates in lists for c in candidates))
        part = np.array(passages)
        if in_batch:
            size = -(-len(passages) * len(mine) // len(rows))
            part = part[((own.start or 0) // len(mine) * size + np.arange(size)) % len(passages)]
        queries, keys = self.query_rows.batch(mine, device, chunk), self.passage_rows.batch(part, device, chunk)
        query, text, location = forward(queries, self.z[part].to(device, non_blocking=True), keys)
        if in_batch:
            text, location = (gather_with_gradient(x)[: len(passages)] for x in (text, location))
            lists = lists[own]
        positive, count = (x.to(device, non_blocking=True) for x in self._masks(mine, lists, passages))
        text_logits = score_logits(query, text, self.config.momentum.temperature)
        for_location, temperature = location_query(query, self.config)
        location_logits = score_logits(for_location, location, temperature)
        weight = self.model.settings.location_weight
        with torch.no_grad():
            first_positive = text.detach()[positive.float().argmax(1)]
            self.monitor = {
                "queue_accuracy": contrastive_accuracy(text_logits + weight * location_logits, positive, count),
                **vector_monitor(query.detach(), first_positive, queries.tokens + keys.tokens),
            }
        return candidate_losses(text_logits, location_logits, positive, count, weight)

    def _masks(self, rows: NDArray[np.int64], lists: list[list[int]], passages: list[int]) -> tuple[Tensor, Tensor]:
        """Return the positives of each query and how often each passage counts in its softmax.

        A passage that a record lists twice counts twice (published). Candidates of other queries do not count if
        their text equals the text of a positive.

        Shape:
            -> (B, M) bool; (B, M) float, 0 for passages that do not count.
        """
        column = {c: j for j, c in enumerate(passages)}
        positive = torch.zeros(len(lists), len(passages), dtype=torch.bool)
        count = torch.full(positive.shape, float(self.config.optim.in_batch))
        for i, own in enumerate(lists):
            mine = self.positives[int(rows[i])]
            if self.config.optim.in_batch:
                texts = {self.texts[c] for c in mine}
                count[i, [j for j, c in enumerate(passages) if self.texts[c] in texts]] = 0.0
            for c, times in Counter(own).items():
                count[i, column[c]] = float(times)
            positive[i, [column[c] for c in mine]] = True
        return positive, count


def number_passages(records: Sequence[Record]) -> tuple[list[Passage], list[list[int]], list[NDArray[np.int64]]]:
    """Return the distinct passages of all records, and for each record the numbers of its positives and negatives.

    Passages are equal if text and coordinates are equal. A negative that equals a positive is left out; a negative
    that a record lists twice occurs twice.
    """
    passages: list[Passage] = []
    index: dict[PlaceKey, int] = {}

    def number(passage: Passage) -> int:
        if passage.key not in index:
            index[passage.key] = len(passages)
            passages.append(passage)
        return index[passage.key]

    positives = [list(dict.fromkeys(number(p) for p in r.positives)) for r in records]
    negatives = [
        np.array([n for n in map(number, r.negatives) if n not in own], np.int64)
        for r, own in zip(records, positives, strict=True)
    ]
    return passages, positives, negatives
