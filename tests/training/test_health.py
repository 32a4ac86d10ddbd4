"""Conditions of the warnings about the health of a training."""

from __future__ import annotations

import math
from typing import Any

import pytest

from m3gal_cli.training.health import HealthMonitor

RANDOM = math.log(1 + 1024)


def row(step: int = 10_000, **values: Any) -> dict[str, Any]:
    healthy = {"text_loss": 1.0, "location_loss": 3.0, "fused_loss": 1.0, "spread": 0.9, "queue_age": 8.0}
    return {"step": step, **healthy, **values}


def monitor(**changes: Any) -> HealthMonitor:
    return HealthMonitor(**({"queue_size": 1024, "batch_size": 128, "m": 0.999, "loss": "fused"} | changes))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"spread": 0.05}, "collapsed"),
        ({"text_loss": RANDOM - 0.01}, "the text loss is 6.92, as high as for random scores"),
        ({"location_loss": RANDOM + 1.0}, "the location loss is 7.93, as high as for random scores (ln(1 + K) = 6.93)"),
        ({"queue_age": 4000.0}, "the oldest keys of the queue are 4000 steps old"),
    ],
)
def test_a_problem_is_reported_once_until_it_has_disappeared(values: dict[str, float], message: str) -> None:
    own = monitor()
    (text,) = own(row(**values))
    assert message in text
    assert own(row(**values)) == []
    assert own(row()) == []
    assert len(own(row(**values))) == 1


def test_conditions_without_a_problem() -> None:
    assert [monitor()(row(step)) for step in (1, 10, 10_000)] == [[], [], []]
    assert monitor(batch_size=1)(row(spread=0.0)) == [], "one vector has no spread"
    assert monitor()(row(step=115, location_loss=9.0)) == [], "the losses of the first steps are random"
    assert len(monitor()(row(step=116, location_loss=9.0))) == 1
    assert monitor(loss="text")(row(location_loss=9.0)) == [], "the location loss is not minimised"
    assert len(monitor(loss="location")(row(location_loss=9.0))) == 1
    assert monitor(queue_size=0)(row(location_loss=99.0, text_loss=99.0)) == [], "finetuning has no queue"
    assert monitor(m=0.9999)(row(queue_age=4000.0)) == []
