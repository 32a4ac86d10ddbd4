"""Finetuning: the candidates of a query, ordered by text and place; query, key and key location encoders all learn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.distributed import gather_with_gradient
from m3gal_cli.core.losses import Losses, alignment, candidate_losses, score_logits, share_right, spread, uniformity
from m3gal_cli.core.tokenizer import TextTokenizer
from m3gal_cli.data.records import Record
from m3gal_cli.errors import InputError
from m3gal_cli.training.candidate_lists import CandidateLists
from m3gal_cli.training.objectives.objective import BiEncoderTask, Forward, Group, Monitor, location_side, trainable


class FinetuneTask(BiEncoderTask):
    """Scores q.d/T and q.g'/T over each query's candidates, cross entropy on the positives; lists may be ragged.

    Args:
        records: candidate records. A negative that equals a positive in text and coordinates is left out.
    """

    stage = "finetune"

    def __init__(self, model: M3gal, tokenize: TextTokenizer, records: Sequence[Record], config: Config) -> None:
        self.model, self.tokenize, self.config = model, tokenize, config
        cut, settings = config.data.max_chars, model.settings
        if config.optim.accumulate > 1 and config.optim.in_batch:
            what = "optim.accumulate with optim.in_batch would leave out the candidates of the batch's other parts"
            raise InputError(what, hint="Set optim.encode_chunk (--encode-chunk), which saves the same memory.")
        self.query_rows = tokenize([r.query[:cut] for r in records], settings.query_prefix)
        self.lists = CandidateLists(records)
        self.positives, passages = self.lists.positives, self.lists.passages
        self.passage_rows = tokenize([p.text[:cut] for p in passages], settings.passage_prefix)
        self.reading = [p.text.strip() for p in passages]
        self.z = torch.from_numpy(settings.normalizer([p.lng for p in passages], [p.lat for p in passages]))
        self.epoch = 0
        self.monitor: Monitor = {}
        model.train_for(self.stage)

    @property
    def rows(self) -> int:
        return len(self.query_rows)

    def groups(self) -> list[Group]:
        optim = self.config.optim
        location = trainable(self.model.gc_encoder_shadow, optim.freeze)
        text = trainable(self.model.encoder_q, optim.freeze) + trainable(self.model.encoder_k, optim.freeze)
        return [
            Group("location", location, optim.location_lr, optim.location_weight_decay),
            Group("text", text, optim.lr, optim.weight_decay),
        ]

    def start_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def candidates(self, row: int) -> list[int]:
        """Passage numbers of a query in this epoch: all positives, then all or ``optim.negatives`` drawn negatives."""
        return self.lists.drawn(row, self.epoch, self.config.optim.negatives, self.config.seed)

    def step(self, forward: Forward, rows: NDArray[np.int64], device: torch.device, own: slice = slice(None)) -> Losses:
        in_batch, limit = self.config.optim.in_batch, self.config.optim.encode_chunk
        mine = rows[own]
        # Candidates of all processes' queries are negatives: each process encodes an equal part of them.
        lists = [self.candidates(int(i)) for i in (rows if in_batch else mine)]
        chosen = list(dict.fromkeys(c for candidates in lists for c in candidates))
        part = np.array(chosen)
        if in_batch:
            share = -(-len(chosen) * len(mine) // len(rows))
            part = part[((own.start or 0) // len(mine) * share + np.arange(share)) % len(chosen)]
        queries, keys = self.query_rows.batch(mine, device, limit), self.passage_rows.batch(part, device, limit)
        query, text, place = forward(queries, self.z[part].to(device, non_blocking=True), keys)
        if in_batch:
            text, place = (gather_with_gradient(x)[: len(chosen)] for x in (text, place))
            lists = lists[own]
        positive, count = (x.to(device, non_blocking=True) for x in self._masks(mine, lists, chosen))
        text_logits = score_logits(query, text, self.config.momentum.temperature)
        seer, temperature = location_side(query, self.config)
        location_logits, weight = score_logits(seer, place, temperature), self.model.settings.location_weight
        right = share_right(text_logits + weight * location_logits, positive, count)
        with torch.no_grad():
            best = text.detach()[positive.float().argmax(1)]
            self.monitor = {
                "queue_accuracy": right,
                "spread": spread(query.detach()),
                "alignment": alignment(query.detach(), best),
                "uniformity": uniformity(query.detach()),
                "tokens": query.new_tensor(float(queries.tokens + keys.tokens)),
            }
        return candidate_losses(text_logits, location_logits, positive, count, weight)

    def _masks(self, rows: NDArray[np.int64], lists: list[list[int]], chosen: list[int]) -> tuple[Tensor, Tensor]:
        """Which of the batch's distinct passages are a query's positives, and how often it is compared with each.

        A passage that a record lists twice counts twice, as published. Other queries' candidates that read as a
        positive does are no negatives.

        Shape:
            -> (B, M) bool, (B, M) float counts, 0 for what takes no part.
        """
        column = {c: j for j, c in enumerate(chosen)}
        positive = torch.zeros(len(lists), len(chosen), dtype=torch.bool)
        count = torch.full(positive.shape, float(self.config.optim.in_batch))
        for i, own in enumerate(lists):
            mine = self.positives[int(rows[i])]
            if self.config.optim.in_batch:
                readings = {self.reading[c] for c in mine}
                count[i, [j for j, c in enumerate(chosen) if self.reading[c] in readings]] = 0.0
            for c, often in Counter(own).items():
                count[i, column[c]] = float(often)
            positive[i, [column[c] for c in mine]] = True
        return positive, count

    def finish(self) -> None:
        """Nothing: there is no queue."""

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing beyond the model: draws depend on seed, epoch and row alone."""
