"""Pretraining: two views of a place and its coordinates, aligned by momentum contrast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.losses import Losses, alignment, pretrain_losses, queue_logits, share_right, spread, uniformity
from m3gal_cli.core.momentum_queue import KeyQueue, momentum_at, update_ema
from m3gal_cli.core.tokenizer import TextTokenizer
from m3gal_cli.errors import InputError
from m3gal_cli.training.objectives.objective import BiEncoderTask, Forward, Group, Monitor, location_side, trainable


class PretrainTask(BiEncoderTask):
    """address1 is the query, address2 the key; texts are tokenised once.

    Args:
        views: address1, address2, lng, lat (degrees) and, where known, poi_id.
    """

    stage = "pretrain"

    def __init__(self, model: M3gal, tokenize: TextTokenizer, views: pd.DataFrame, config: Config) -> None:
        self.model, self.tokenize, self.config = model, tokenize, config
        settings, momentum = model.settings, config.momentum
        self.query_rows = tokenize(list(views["address1"]), settings.query_prefix)
        self.key_rows = tokenize(list(views["address2"]), settings.passage_prefix)
        self.z = torch.from_numpy(settings.normalizer(views["lng"], views["lat"]))
        self.place = torch.from_numpy(place_ids(views)) if momentum.mask_same_place else None
        self.queue = KeyQueue(momentum.queue_size, model.dim, momentum.queue_fill)
        self.m_location = 0.0
        self.monitor: Monitor = {}
        self._keys: list[tuple[Tensor, Tensor, Tensor | None, Tensor]] = []
        model.train_for(self.stage)

    @property
    def rows(self) -> int:
        return len(self.query_rows)

    def groups(self) -> list[Group]:
        optim = self.config.optim
        location = trainable(self.model.gc_encoder, optim.freeze)
        text = trainable(self.model.encoder_q, optim.freeze)
        return [
            Group("location", location, optim.location_lr, optim.location_weight_decay),
            Group("text", text, optim.lr, optim.weight_decay),
        ]

    def start_epoch(self, epoch: int) -> None:
        momentum = self.config.momentum
        self.m_location = momentum_at(epoch, momentum.m_location, momentum.m_location_increment)

    def step(self, forward: Forward, rows: NDArray[np.int64], device: torch.device, own: slice = slice(None)) -> Losses:
        """One step in the published order: EMA, keys, queries, losses; ``finish`` enqueues."""
        model, momentum, rows = self.model, self.config.momentum, rows[own]
        self.queue.to(device)
        if not self._keys:  # of a batch that is taken in parts, the first
            update_ema(model.encoder_k, model.encoder_q, momentum.m)
            update_ema(model.gc_encoder_shadow, model.gc_encoder, self.m_location)
        limit = self.config.optim.encode_chunk
        queries, keys = (table.batch(rows, device, limit) for table in (self.query_rows, self.key_rows))
        z = self.z[rows].to(device, non_blocking=True)
        place = None if self.place is None else self.place[rows].to(device, non_blocking=True)
        key = model.keys(keys)
        with torch.no_grad():
            key_location = model.embed_poi_location(z)
            old = self.queue.gc_queue
            if momentum.location_negatives == "fresh":
                old = model.embed_location(self.queue.z).T
        query, location = forward(queries, z)
        blocked = self.queue.blocked(place)
        text_logits = queue_logits(query, key, self.queue.queue, momentum.temperature, blocked)
        seer, temperature = location_side(query, self.config)
        location_logits = queue_logits(seer, location, old, temperature, blocked)
        self._keys.append((key, key_location, place, z))
        weight = model.settings.location_weight
        self.monitor = self._monitor(query.detach(), key, text_logits, weight * location_logits)
        self.monitor["tokens"] = query.new_tensor(float(queries.tokens + keys.tokens))
        return pretrain_losses(text_logits, location_logits, weight)

    def _monitor(self, query: Tensor, key: Tensor, text_logits: Tensor, location_logits: Tensor) -> Monitor:
        chosen = {"text": text_logits, "location": location_logits}.get(self.config.optim.loss)
        age = float(self.queue.filled) / self.config.optim.batch_size
        return {
            "queue_accuracy": share_right(text_logits + location_logits if chosen is None else chosen),
            "spread": spread(query),
            "alignment": alignment(query, key),
            "uniformity": uniformity(query),
            "queue_age": query.new_tensor(age),
        }

    def finish(self) -> None:
        """Enqueue the batch's keys: only now, as the gradients of the step read the queue, so that it needs no copy."""
        parts = list(zip(*self._keys, strict=True))
        self._keys = []
        key, location, z = (torch.cat(parts[i]) for i in (0, 1, 3))
        self.queue.enqueue(key, location, None if self.place is None else torch.cat(parts[2]), z)

    def state(self) -> dict[str, Any]:
        return {"queue": dict(self.queue.state_dict()), "m_location": self.m_location}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take the queue of a checkpoint, ours or a published one (which has no fill count and no places)."""
        queue: dict[str, Tensor] = dict(state["queue"])
        shape = tuple(queue["queue"].shape)
        if shape != tuple(self.queue.queue.shape):
            hint = f"Resume with --moco-k {shape[1]}, or start from its weights alone with --init."
            what = (
                f"the checkpoint's queue is {shape[0]} wide and {shape[1]} long, this run's is {self.queue.size} long"
            )
            raise InputError(what, hint=hint)
        queue.setdefault("filled", torch.tensor([shape[1]]))
        queue.setdefault("z", torch.zeros(shape[1], 2))
        queue.setdefault("place", torch.full((shape[1],), -1, dtype=torch.long))
        self.queue.load_state_dict(queue)
        self.m_location = float(state.get("m_location", 0.0))


def place_ids(views: pd.DataFrame) -> NDArray[np.int64]:
    """One number a place: rows share it if they share poi_id (else coordinates), group or, through a text, a reading.

    Two places that read the same are no negatives of each other, so texts and groups join their places too.
    Shape: -> (N,).
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    if "poi_id" in views.columns:
        place = np.asarray(pd.factorize(views["poi_id"])[0], np.int64)
    else:
        place = np.asarray(views.groupby(["lng", "lat"], sort=False).ngroup(), np.int64)
    texts = pd.factorize(pd.concat([views["address1"], views["address2"]], ignore_index=True))[0]
    kinds = [place, *np.split(texts, 2)]
    starts = [0, int(place.max()) + 1, int(place.max()) + 1]
    size = starts[-1] + int(texts.max()) + 1
    if "group" in views.columns:
        kinds.append(pd.factorize(views["group"])[0])
        starts.append(size)
        size += int(kinds[-1].max()) + 1
    rows = np.tile(place, len(kinds))
    nodes = np.concatenate([codes + start for codes, start in zip(kinds, starts, strict=True)])
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, nodes)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1]
    return np.asarray(labels[place], np.int64)
