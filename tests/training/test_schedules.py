"""Learning rates and the order of rows: analytic values, and what a run logs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.config.load import load_config
from m3gal_cli.config.schema import Config
from m3gal_cli.training.rng_state import epoch_order
from m3gal_cli.training.schedules import ramp_factor, step_factor
from tests.helpers.cli import m3gal, steps
from tests.helpers.sample_town import STEPS, write_town


@pytest.mark.parametrize(
    ("epoch", "schedule", "wanted"),
    [
        (0, [], 1.0),
        (500, [], 1.0),
        (39, [40, 80], 1.0),
        (40, [40, 80], 0.1),
        (79, [40, 80], 0.1),
        (80, [40, 80], 0.01),
        (0, [0], 0.1),
        (7, [7, 7], 0.01),
    ],
)
def test_step_factor(epoch: int, schedule: list[int], wanted: float) -> None:
    assert step_factor(epoch, schedule) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
def test_ramp_rises_in_equal_steps_to_one(decay: str) -> None:
    found = [ramp_factor(step, 100, 0.1, decay) for step in range(11)]
    assert found == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0], rel=1e-12)


@pytest.mark.parametrize(
    ("decay", "step", "wanted"),
    [
        *(("none", step, 1.0) for step in (20, 60, 100, 400)),
        *(("linear", step, 1.0 - (step - 20) / 80) for step in (20, 21, 60, 99)),
        *(("cosine", step, math.cos(math.pi * (step - 20) / 160) ** 2) for step in (20, 40, 60, 99)),
        ("linear", 100, 0.0),
        ("cosine", 100, 0.0),
        ("linear", 400, 0.0),
        ("cosine", 400, 0.0),
    ],
)
def test_ramp_falls_from_the_end_of_the_warm_up(decay: str, step: int, wanted: float) -> None:
    assert ramp_factor(step, 100, 0.2, decay) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 0.99), (3, 0.3), (7, 0.5), (50, 0.99)])
def test_no_step_has_a_rate_of_nothing_or_above_one(decay: str, total: int, warmup: float) -> None:
    assert all(0.0 < ramp_factor(step, total, warmup, decay) <= 1.0 for step in range(total))


def ordered(shuffle: bool = True, seed: int = 3) -> Config:
    return load_config(None, {"data.shuffle": shuffle, "seed": seed})


def test_every_epoch_is_another_permutation() -> None:
    orders = [epoch_order(50, epoch, ordered()).tolist() for epoch in range(5)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in [*orders, range(50)]}) == 6


def test_seed_and_epoch_alone_decide_the_order() -> None:
    np.random.seed(1)
    first = epoch_order(50, 4, ordered())
    np.random.seed(2)
    assert epoch_order(50, 4, ordered()).tolist() == first.tolist()
    assert epoch_order(50, 4, ordered(seed=4)).tolist() != first.tolist()
    assert epoch_order(50, 5, ordered(seed=2)).tolist() != first.tolist()


def test_file_order_without_shuffling() -> None:
    assert [epoch_order(5, epoch, ordered(shuffle=False)).tolist() for epoch in (0, 9)] == [[0, 1, 2, 3, 4]] * 2


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("rates"))


def test_a_run_falls_at_its_milestones(profile: Path) -> None:
    run = m3gal(
        *("pretrain", "--config", profile, "--runs-dir", profile.parent / "runs", "--output-name", "steps"),
        *("--schedule", 1, 2, "--lr", 0.02, "--gc-lr", 0.004),
    ).run
    rows = steps(run)
    assert [row["epoch"] for row in rows] == [0] * STEPS + [1] * STEPS + [2] * STEPS
    for row in rows:
        assert row["lr"] == pytest.approx(0.02 / 10 ** row["epoch"], rel=1e-12)
        assert row["location_lr"] == pytest.approx(0.004 / 10 ** row["epoch"], rel=1e-12)


def test_a_run_warms_up_and_decays_over_the_steps_that_it_will_do(profile: Path) -> None:
    """Of 12 steps --max-steps leaves 10: 4 up, then down to 1/6 at the last; and a tenth from epoch 2 on."""
    run = m3gal(
        *("pretrain", "--config", profile, "--runs-dir", profile.parent / "runs", "--output-name", "ramp"),
        *("--max-steps", 10, "--schedule", 2, "--lr", 0.02, "--gc-lr", 0.004),
        *("--set", "optim.warmup=0.4", "--set", "optim.decay=linear"),
    ).run
    ramp = [1 / 4, 2 / 4, 3 / 4, 1, 1, 5 / 6, 4 / 6, 3 / 6, 0.1 * 2 / 6, 0.1 * 1 / 6]
    assert [row["lr"] for row in steps(run)] == pytest.approx([0.02 * r for r in ramp], rel=1e-12)
    assert [row["location_lr"] for row in steps(run)] == pytest.approx([0.004 * r for r in ramp], rel=1e-12)
