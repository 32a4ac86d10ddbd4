"""Pretraining objective: align two views of a place and its coordinates by momentum contrast.

Method: He et al. 2020, "Momentum Contrast for Unsupervised Visual Representation Learning", with a text queue and a
location queue that are filled together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from m3gal_cli.config.schema import Config
from m3gal_cli.core.bi_encoder import M3gal
from m3gal_cli.core.losses import Losses, contrastive_accuracy, pretrain_losses, queue_logits
from m3gal_cli.core.momentum_queue import KeyQueue, location_momentum, update_ema
from m3gal_cli.core.tokenizer import TextTokenizer
from m3gal_cli.errors import InputError
from m3gal_cli.training.objectives.objective import Forward, Objective, ParameterGroup, location_query, vector_monitor


class MomentumContrast(Objective):
    """Contrast of each view pair against a queue of earlier keys: address1 is the query, address2 the key.

    The query encoder and the location encoder are trained. The key encoders follow as exponential moving averages.

    Args:
        model: The bi-encoder.
        tokenize: Its tokenizer. All texts are tokenised once, here.
        views: Columns address1, address2, lng, lat (degrees); optional poi_id and group (see ``place_ids``).
        config: Settings.
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
        self.rows, self.m_location, self.monitor = len(views), 0.0, {}
        self._keys: list[tuple[Tensor, Tensor, Tensor | None, Tensor]] = []
        model.set_trainable(self.stage)

    def groups(self) -> list[ParameterGroup]:
        """Return the group of the location encoder and the group of the query encoder."""
        return self.parameter_groups([self.model.encoder_q], self.model.gc_encoder)

    def start_epoch(self, epoch: int) -> None:
        """Set the momentum of the key location encoder: it grows from 0 before every epoch."""
        momentum = self.config.momentum
        self.m_location = location_momentum(epoch, momentum.location, momentum.location_increment)

    def step(self, forward: Forward, rows: NDArray[np.int64], device: torch.device, own: slice = slice(None)) -> Losses:
        """Return the losses of a batch, in the published order: EMA update, keys, queries, losses.

        ``after_backward`` enqueues the keys. If a batch is processed in parts, only the first part updates the EMA.
        """
        model, momentum, rows = self.model, self.config.momentum, rows[own]
        self.queue.to(device)
        if not self._keys:
            update_ema(model.encoder_k, model.encoder_q, momentum.text)
            update_ema(model.gc_encoder_shadow, model.gc_encoder, self.m_location)
        chunk = self.config.optim.encode_chunk
        queries, keys = (table.batch(rows, device, chunk) for table in (self.query_rows, self.key_rows))
        z = self.z[rows].to(device, non_blocking=True)
        place = None if self.place is None else self.place[rows].to(device, non_blocking=True)
        key = model.encode_keys(keys)
        with torch.no_grad():
            key_location = model.embed_poi_location(z)
            location_negatives = self.queue.gc_queue
            if momentum.location_negatives == "fresh":
                location_negatives = model.embed_location(self.queue.z).T
        query, location = forward(queries, z)
        blocked = self.queue.blocked(place)
        text_logits = queue_logits(query, key, self.queue.queue, momentum.temperature, blocked)
        for_location, temperature = location_query(query, self.config)
        location_logits = queue_logits(for_location, location, location_negatives, temperature, blocked)
        self._keys.append((key, key_location, place, z))
        weight = model.settings.location_weight
        chosen = {"text": text_logits, "location": location_logits}
        fused_logits = text_logits + weight * location_logits
        self.monitor = {
            "queue_accuracy": contrastive_accuracy(chosen.get(self.config.optim.loss, fused_logits)),
            **vector_monitor(query.detach(), key, queries.tokens + keys.tokens),
            "queue_age": query.new_tensor(float(self.queue.filled) / self.config.optim.batch_size),
        }
        return pretrain_losses(text_logits, location_logits, weight)

    def after_backward(self) -> None:
        """Enqueue the keys of the batch.

        The backward pass reads the queue, so enqueueing before it would need a copy of the queue.
        """
        parts = list(zip(*self._keys, strict=True))
        self._keys = []
        key, location, z = (torch.cat(parts[i]) for i in (0, 1, 3))
        self.queue.enqueue(key, location, None if self.place is None else torch.cat(parts[2]), z)

    def state(self) -> dict[str, Any]:
        """Return the queue and the current momentum of the key location encoder."""
        return {"queue": dict(self.queue.state_dict()), "m_location": self.m_location}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore the queue of a checkpoint. A published checkpoint has no fill count and no places.

        Raises:
            InputError: The queue has another shape.
        """
        queue: dict[str, Tensor] = dict(state["queue"])
        shape = tuple(queue["queue"].shape)
        if shape != tuple(self.queue.queue.shape):
            hint = f"Resume with --queue-size {shape[1]}, or start from the weights only with --init."
            width, size = self.queue.queue.shape
            what = f"the checkpoint's queue has {shape[1]} keys of width {shape[0]}, this run's {size} of width {width}"
            raise InputError(what, hint=hint)
        queue.setdefault("filled", torch.tensor([shape[1]]))
        queue.setdefault("z", torch.zeros(shape[1], 2))
        queue.setdefault("place", torch.full((shape[1],), -1, dtype=torch.long))
        self.queue.load_state_dict(queue)
        self.m_location = float(state.get("m_location", 0.0))


def place_ids(views: pd.DataFrame) -> NDArray[np.int64]:
    """Return a place number for each row; rows of one place are never each other's negatives.

    Rows belong to one place if they share a poi_id (without that column: coordinates), a group or a text. The relation
    is transitive: places are the connected components of the graph of ids, groups and texts.

    Shape:
        -> (N,) int64.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    by_coordinates = views.groupby(["lng", "lat"], sort=False).ngroup
    codes = [
        pd.factorize(views["poi_id"])[0] if "poi_id" in views.columns else by_coordinates().to_numpy(),
        pd.factorize(pd.concat([views["address1"], views["address2"]], ignore_index=True))[0],  # (2 N,)
    ]
    if "group" in views.columns:
        codes.append(pd.factorize(views["group"])[0])
    # Nodes of the graph are the rows, then the distinct values of each code. An edge leads from a row to its value.
    *offsets, size = np.cumsum([len(views), *(int(code.max()) + 1 for code in codes)])
    values = np.concatenate([code + offset for code, offset in zip(codes, offsets, strict=True)])
    rows = np.tile(np.arange(len(views)), len(values) // len(views))
    graph = coo_matrix((np.ones(len(rows), np.int8), (rows, values)), shape=(size, size))
    return np.asarray(connected_components(graph, directed=False)[1][: len(views)], np.int64)
