"""--dry-run: sizes and times of the next training step on stdout; nothing is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3gal_cli.config.load import profile_names
from m3gal_cli.core.bi_encoder import count_parameters
from m3gal_cli.core.checkpoint import load_checkpoint
from tests.helpers.cli import Answer, m3gal
from tests.helpers.sample_town import PLACES, STEPS, VIEWS, town_with_run

FINETUNED = {"geotes.yaml", "paper-finetune.yaml"}
PROFILES = [("finetune" if name in FINETUNED else "pretrain", name) for name in profile_names()]
pytestmark = pytest.mark.usefixtures("here")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of the town and a run ``started`` of 5 steps."""
    return town_with_run(tmp_path_factory.mktemp("dry"), "started", 5)


def dry(base: Path, stage: str, *more: object) -> Answer:
    """Make a dry run and check that it changes no file."""
    before = [(p, p.lstat().st_mtime_ns) for p in (base, *base.rglob("*"))]
    options = ("-c", base / "data" / "tiny.yaml", "--runs-dir", base / "runs", *more)
    answer = m3gal(stage, *options, "--dry-run")
    assert [(p, p.lstat().st_mtime_ns) for p in (base, *base.rglob("*"))] == before
    return answer


@pytest.mark.parametrize(("stage", "profile"), [*PROFILES, ("finetune", "demo.yaml")])
def test_packaged_profiles_run(base: Path, stage: str, profile: str) -> None:
    shape = ("vocab_size=300", "hidden=16", "layers=1", "heads=2")
    sets = [word for text in shape for word in ("--set", f"model.scratch.{text}")]
    options = ("--config", profile, "--text-encoder", "scratch", *sets, "--data-dir", base / "data", "--batch-size", 4)
    answer = m3gal(stage, *options, "--runs-dir", base / "runs", "--dry-run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["steps"] > 0


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_parameters_are_those_of_the_model(base: Path, stage: str) -> None:
    model = load_checkpoint(base / "runs" / "started" / "last").model
    found = dry(base, stage, "--json", "--batch-size", 4, "--init", "runs/started").json()["parameters"]
    model.set_trainable(stage)
    assert found == {
        "query text encoder": count_parameters(model.encoder_q),
        "POI text encoder": count_parameters(model.encoder_k),
        "location encoder": count_parameters(model.gc_encoder),
        "key location encoder": count_parameters(model.gc_encoder_shadow),
        "trainable": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }


@pytest.mark.parametrize("source", ["auto", "runs/started"])
def test_a_resumed_run_counts_the_remaining_steps(base: Path, source: str) -> None:
    name = ("--run-name", "started") if source == "auto" else ()
    found = dry(base, "pretrain", "--json", "--resume", source, *name).json()
    assert (found["done"], found["steps"]) == (5, 3 * STEPS)
    assert found["seconds"] == pytest.approx(found["seconds_per_step"] * (3 * STEPS - 5))
    again = dry(base, "pretrain", "--json", "--resume", source, "--max-steps", 5, *name).json()
    assert (again["done"], again["steps"], again["seconds"]) == (5, 5, 0.0)


def test_tables_without_json(base: Path) -> None:
    answer = dry(base, "pretrain", "--resume", "auto", "--run-name", "started")
    assert answer.code == 0, answer.err
    text = " ".join(answer.out.split())
    for row in ("│ queue │ 40 text and location keys, 16 wide │", f"│ steps │ 12 ({STEPS} per epoch), 5 done │"):
        assert row in text
    assert answer.err == "dry run: nothing was written\n"


def test_measures_of_pretraining(base: Path) -> None:
    found = dry(base, "pretrain", "--json").json()
    wanted = {"stage": "pretrain", "device": "cpu", "processes": 1, "members": 1, "queue": [16, 40], "rows": VIEWS}
    wanted |= {"batch_size": 16, "steps_per_epoch": STEPS, "steps": 3 * STEPS, "done": 0}
    assert {name: found[name] for name in wanted} == wanted
    parts = dry(base, "pretrain", "--json", "--accumulate", 2, "--encode-chunk", 3).json()
    for name in ("queries", "keys"):
        side = found[name]
        assert side["texts"] == 16 <= side["tokens"] <= 16 * side["length"] <= 16 * 24
        assert parts[name] == side, "recomputed and accumulated batches are counted once"
    assert found["seconds"] == pytest.approx(found["seconds_per_step"] * 3 * STEPS)
    assert found["seconds_per_step"] > 0
    assert found["peak_memory_mb"] > 50


def test_measures_of_a_model_soup(base: Path) -> None:
    found = dry(base, "finetune", "--json", "--batch-size", 4, "--max-steps", 6, "--soup-size", 3).json()
    wanted = {"stage": "finetune", "queue": None, "rows": 16, "steps": 6, "members": 3}
    assert {name: found[name] for name in wanted} == wanted
    assert found["queries"]["texts"] == 4
    assert 6 <= found["keys"]["texts"] <= min(4 * 6, PLACES)
    assert found["seconds"] == pytest.approx(3 * 6 * found["seconds_per_step"]), "the time of all trainings"


def test_a_dry_run_refuses_what_a_training_refuses(base: Path) -> None:
    given = (("--dry-run", "--run-name", "started"), ("--json",))
    for more, message in zip(given, ("the run already exists", "--json needs --dry-run"), strict=True):
        answer = m3gal("pretrain", "-c", base / "data" / "tiny.yaml", *more)
        assert (answer.code, answer.out) == (2, "")
        assert message in answer.err
