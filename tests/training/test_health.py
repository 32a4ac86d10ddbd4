"""When the monitor speaks, and that it does not repeat itself."""

from __future__ import annotations

import math
from typing import Any

import pytest

from m3gal_cli.training.health import HealthMonitor

CHANCE = math.log(1 + 1024)


def row(step: int = 10_000, **values: Any) -> dict[str, Any]:
    healthy = {"text_loss": 1.0, "location_loss": 3.0, "fused_loss": 1.0, "spread": 0.9, "queue_age": 8.0}
    return {"step": step, **healthy, **values}


def watch(**changes: Any) -> HealthMonitor:
    return HealthMonitor(**({"queue_size": 1024, "batch_size": 128, "m": 0.999, "minimised": "fused"} | changes))


def test_a_healthy_run_is_silent() -> None:
    own = watch()
    assert [own(row(step)) for step in (1, 10, 10_000)] == [[], [], []]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"spread": 0.05}, "collapsed"),
        ({"text_loss": CHANCE - 0.01}, "the text loss is 6.92, no better than chance"),
        ({"location_loss": CHANCE + 1.0}, "the location loss is 7.93, no better than chance (ln(1 + K) = 6.93)"),
        ({"queue_age": 4000.0}, "the oldest keys of the queue are 4000 steps old"),
    ],
)
def test_one_warning_each(values: dict[str, float], word: str) -> None:
    own = watch()
    (text,) = own(row(**values))
    assert word in text
    assert text.endswith("."), "it says what to do"
    assert own(row(**values)) == [], "once"
    assert own(row()) == []
    assert len(own(row(**values))) == 1, "again, after it had recovered"


def test_several_at_once() -> None:
    assert len(watch()(row(spread=0.0, location_loss=9.0, queue_age=9e3))) == 3


def test_what_is_no_sign() -> None:
    assert watch(batch_size=1)(row(spread=0.0)) == [], "one vector has no spread"
    assert watch()(row(step=115, location_loss=9.0)) == [], "the first steps are at chance"
    assert len(watch()(row(step=116, location_loss=9.0))) == 1
    assert watch(minimised="text")(row(location_loss=9.0)) == [], "nobody asked it to learn places"
    assert len(watch(minimised="location")(row(location_loss=9.0))) == 1
    assert watch(queue_size=0)(row(location_loss=99.0, text_loss=99.0)) == [], "finetuning has no queue"
    assert watch(m=0.9999)(row(queue_age=4000.0)) == []
