"""Warnings about the health of a training, from its logged steps."""

from __future__ import annotations

import math
from typing import Any

MIN_SPREAD = 0.1  # untrained BERT vectors of addresses have a spread of about 0.3, trained ones 0.9
RANDOM_MARGIN = 0.02  # nats below ln(1 + K) that still count as a random loss
MAX_QUEUE_AGE = 3.0  # in time constants 1 / (1 - m) of the EMA: 5% of the weights that made the oldest key are left
MIN_STEPS = 100  # steps, besides those that fill the queue twice, in which random losses are normal


class HealthMonitor:
    """Warn once about each problem, and again if the problem returns.

    Args:
        queue_size: Length K of the queue; 0 without a queue (finetuning).
        batch_size: Rows per step.
        m: Momentum of the key text encoder.
        loss: Loss that is minimised: ``text``, ``location``, ``fused`` or ``separate``.
    """

    def __init__(self, queue_size: int, batch_size: int, m: float, loss: str) -> None:
        self.queue_size, self.batch_size, self.m, self.loss = queue_size, batch_size, m, loss
        self.active: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> list[str]:
        """Return the new warnings of a ``step`` row of metrics.jsonl."""
        problems = self._collapsed(row) | self._old_queue(row) | self._random_loss(row)
        new = [text for name, text in problems.items() if name not in self.active]
        self.active = set(problems)
        return new

    def _collapsed(self, row: dict[str, Any]) -> dict[str, str]:
        spread = row.get("spread", 1.0)
        if spread >= MIN_SPREAD or self.batch_size == 1:  # one vector has no spread
            return {}
        text = f"the query encoder has collapsed: its vectors are nearly equal (spread {spread:.3f}, at most 1)."
        text += " Lower the learning rates (--lr, --lr-location) or warm up (--set optim.warmup=0.1)."
        return {"collapse": text}

    def _old_queue(self, row: dict[str, Any]) -> dict[str, str]:
        age = row.get("queue_age", 0.0)
        if age * (1.0 - self.m) <= MAX_QUEUE_AGE:
            return {}
        text = f"the oldest keys of the queue are {age:.0f} steps old. At momentum m = {self.m:g} the key encoder has"
        text += " changed too much since then. Shorten the queue (--queue-size) or raise --momentum-text."
        return {"stale": text}

    def _random_loss(self, row: dict[str, Any]) -> dict[str, str]:
        """Check for losses near ln(1 + K), the loss of random scores, after the queue has been filled twice."""
        if not self.queue_size or row["step"] < MIN_STEPS + 2 * self.queue_size / self.batch_size:
            return {}
        random_loss, problems = math.log1p(self.queue_size), {}
        for name in ("text", "location"):
            value = row[f"{name}_loss"]
            if self.loss in (name, "fused") and value > random_loss - RANDOM_MARGIN:
                text = f"the {name} loss is {value:.2f}, as high as for random scores (ln(1 + K) = {random_loss:.2f})."
                text += " Check the learning rates, the temperature (--temperature) and the data."
                problems[name] = text
        return problems
