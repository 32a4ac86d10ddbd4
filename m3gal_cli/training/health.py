"""What a logged step says about the health of a training: warnings in words."""

from __future__ import annotations

import math
from typing import Any

COLLAPSED = 0.1  # spread; untrained BERT vectors of addresses have about 0.3, trained ones 0.9
AT_CHANCE = 0.02  # nats below ln(1 + negatives) that are still chance
STALE = 3.0  # ages of the key encoder: exp(-3) = 5% is left of the one that made the oldest key


class HealthMonitor:
    """Warns once when something goes wrong, and again only after it had recovered.

    Args:
        queue_size: slots of the queue; 0 where there is none (finetuning).
        batch_size: rows a step.
        m: momentum of the key text encoder.
        minimised: the loss that is minimised, ``text``, ``location`` or ``fused``.
    """

    def __init__(self, queue_size: int, batch_size: int, m: float, minimised: str) -> None:
        self.queue_size, self.batch_size, self.m, self.minimised = queue_size, batch_size, m, minimised
        self.wrong: set[str] = set()

    def __call__(self, row: dict[str, Any]) -> list[str]:
        """New warnings that a row of metrics.jsonl gives rise to."""
        found = self._collapse(row) | self._stale(row) | self._chance(row)
        new = [text for name, text in found.items() if name not in self.wrong]
        self.wrong = set(found)
        return new

    def _collapse(self, row: dict[str, Any]) -> dict[str, str]:
        spread = row.get("spread", 1.0)
        if spread >= COLLAPSED or self.batch_size == 1:
            return {}
        text = f"the query vectors lie almost on one point (spread {spread:.3f}; 1 fills the sphere): "
        return {
            "collapse": text + "the encoder has collapsed. Lower the rates (--lr, --gc-lr) or warm up (optim.warmup)."
        }

    def _stale(self, row: dict[str, Any]) -> dict[str, str]:
        age = row.get("queue_age", 0.0) * (1.0 - self.m)
        if age <= STALE:
            return {}
        text = (
            f"the oldest keys of the queue are {row['queue_age']:.0f} steps old, but at m = {self.m:g} the key encoder "
        )
        return {"stale": text + "has become another one by then. Shorten the queue (--moco-k) or raise --moco-m."}

    def _chance(self, row: dict[str, Any]) -> dict[str, str]:
        """Losses at ln(1 + K) once the queue is full, where all that can be learned at first should be learned."""
        full = self.queue_size / self.batch_size
        if not self.queue_size or row["step"] < 100 + 2 * full:
            return {}
        chance, found = math.log1p(self.queue_size), {}
        for name in ("text", "location"):
            if self.minimised in (name, "fused") and row[f"{name}_loss"] > chance - AT_CHANCE:
                text = (
                    f"the {name} loss is {row[f'{name}_loss']:.2f}, no better than chance (ln(1 + K) = {chance:.2f}): "
                )
                found[name] = text + f"nothing is learned of the {name}. See the rates, the temperature and the data."
        return found
