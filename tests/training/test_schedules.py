"""Learning rates and the order of rows: analytic values, and the rates that a run logs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.training.schedules import epoch_order, ramp_factor, step_factor
from tests.helpers.cli import steps
from tests.helpers.sample_town import STEPS, train, write_town


def test_each_milestone_divides_the_rate_by_ten() -> None:
    given = ((500, []), (39, [40, 80]), (40, [40, 80]), (80, [40, 80]), (7, [7, 7]))
    assert [step_factor(*own) for own in given] == pytest.approx([1.0, 1.0, 0.1, 0.01, 0.01], rel=1e-12)


@pytest.mark.parametrize(
    ("decay", "step", "wanted"),
    [
        *((decay, step, (step + 1) / 20) for decay in ("none", "linear", "cosine") for step in (0, 7, 19)),
        *(("none", step, 1.0) for step in (20, 60, 100, 400)),
        *(("linear", step, 1.0 - (step - 20) / 80) for step in (20, 21, 60, 99)),
        *(("cosine", step, math.cos(math.pi * (step - 20) / 160) ** 2) for step in (20, 40, 60, 99)),
        *((decay, step, 0.0) for decay in ("linear", "cosine") for step in (100, 400)),
    ],
)
def test_the_rate_rises_linearly_and_then_decays(decay: str, step: int, wanted: float) -> None:
    assert ramp_factor(step, 100, 0.2, decay) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 0.99), (3, 0.3), (7, 0.5), (50, 0.99)])
def test_every_step_has_a_factor_above_zero_and_at_most_one(decay: str, total: int, warmup: float) -> None:
    assert all(0.0 < ramp_factor(step, total, warmup, decay) <= 1.0 for step in range(total))


def test_every_epoch_has_another_permutation_that_seed_and_epoch_determine() -> None:
    orders = [epoch_order(50, epoch, 3).tolist() for epoch in range(5)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in [*orders, range(50)]}) == 6
    np.random.seed(2)
    assert epoch_order(50, 4, 3).tolist() == orders[4]
    assert epoch_order(50, 4, 4).tolist() != orders[4]
    assert epoch_order(50, 5, 2).tolist() != orders[4]
    assert epoch_order(50, 4, 3, shuffle=False).tolist() == list(range(50))


def test_a_run_applies_milestones_warm_up_and_decay(tmp_path: Path) -> None:
    """10 of 12 steps: 4 of warm-up, then linear decay to 1/6 at the last one; a tenth from epoch 2 on."""
    options = ("--max-steps", 10, "--schedule", 2, "--lr", 0.02, "--lr-location", 0.004)
    sets = ("--set", "optim.warmup=0.4", "--set", "optim.decay=linear")
    run = train("pretrain", write_town(tmp_path), "ramp", *options, *sets).run
    ramp = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 0.1 * 2 / 6, 0.1 * 1 / 6]
    assert [row["epoch"] for row in steps(run)] == [0] * STEPS + [1] * STEPS + [2] * 2
    assert [row["lr"] for row in steps(run)] == pytest.approx([0.02 * r for r in ramp], rel=1e-12)
    assert [row["location_lr"] for row in steps(run)] == pytest.approx([0.004 * r for r in ramp], rel=1e-12)
