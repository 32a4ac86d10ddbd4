"""--dry-run: the next step of a training, its sizes and times on stdout, and no trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.config.load import profile_names
from m3gal_cli.core.bi_encoder import count_parameters
from m3gal_cli.core.checkpoint import load_checkpoint
from tests.helpers.cli import Answer, m3gal, steps
from tests.helpers.cli import weights as weights_of
from tests.helpers.sample_town import PLACES, STEPS, VIEWS, write_town

# What each packaged profile is for.
PROFILES = {
    ("pretrain",): ("demo.yaml", "osm.yaml", "paper.yaml", "views.yaml"),
    ("finetune",): ("demo.yaml", "geotes.yaml", "paper-finetune.yaml"),
}
FIELDS = {"stage", "device", "members", "processes", "queries", "keys", "queue", "parameters", "rows", "batch_size"}
FIELDS |= {"steps_per_epoch", "steps", "done", "seconds_per_step", "seconds", "peak_memory_mb"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the town's data and a run ``begun`` of 5 steps."""
    folder = tmp_path_factory.mktemp("dry")
    profile = write_town(folder / "data")
    runs = ("--runs-dir", folder / "runs", "--output-name", "begun")
    assert m3gal("pretrain", "-c", profile, *runs, "--max-steps", 5).run.is_dir()
    return folder


def tree(folder: Path) -> dict[str, Any]:
    """Every file and folder with its content and the time it was changed."""
    paths = sorted(folder.rglob("*"))
    return {str(p): (p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else None) for p in (folder, *paths)}


def dry(base: Path, stage: str, *more: object) -> Answer:
    """A dry run, and nothing in the folder is other than before."""
    before = tree(base)
    given = ("-c", base / "data" / "tiny.yaml", "--runs-dir", base / "runs", *more)
    answer = m3gal(stage, *given, "--dry-run")
    assert tree(base) == before
    return answer


@pytest.fixture(autouse=True)
def here(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)


def test_every_profile_is_of_a_stage() -> None:
    assert set().union(*PROFILES.values()) == set(profile_names())


@pytest.mark.parametrize(("stage", "profile"), [(stage, name) for stage, names in PROFILES.items() for name in names])
def test_of_a_packaged_profile(base: Path, stage: tuple[str, ...], profile: str) -> None:
    small = ("vocab_size=300", "hidden=16", "layers=1", "heads=2")
    sets = [word for text in small for word in ("--set", f"model.scratch.{text}")]
    given = ("--config", profile, "--text-encoder", "scratch", *sets, "--data-dir", base / "data", "--batch-size", 4)
    answer = m3gal(*stage, *given, "--runs-dir", base / "runs", "--dry-run", "--json")
    assert answer.code == 0, answer.err
    assert answer.json()["steps"] > 0


def test_of_pretraining(base: Path) -> None:
    found = dry(base, "pretrain", "--json").json()
    assert set(found) == FIELDS
    assert (found["stage"], found["device"], found["processes"]) == ("pretrain", "cpu", 1)
    for side, most in (("queries", 24), ("keys", 24)):
        assert found[side]["texts"] == 16
        assert 0 < found[side]["length"] <= most
        assert found[side]["texts"] <= found[side]["tokens"] <= found[side]["texts"] * found[side]["length"]
    assert found["queue"] == [16, 40]
    assert (found["rows"], found["batch_size"], found["steps_per_epoch"]) == (VIEWS, 16, STEPS)
    assert (found["steps"], found["done"]) == (3 * STEPS, 0)
    assert found["seconds"] == pytest.approx(found["seconds_per_step"] * 3 * STEPS)
    assert found["seconds_per_step"] > 0
    assert found["peak_memory_mb"] > 50


def test_of_finetuning(base: Path) -> None:
    found = dry(base, "finetune", "--json", "--batch-size", 4, "--max-steps", 6).json()
    assert (found["stage"], found["queue"], found["rows"], found["steps"]) == ("finetune", None, 16, 6)
    assert found["queries"]["texts"] == 4
    assert 6 <= found["keys"]["texts"] <= min(4 * 6, PLACES)


def test_parameters_are_the_models(base: Path) -> None:
    checkpoint = load_checkpoint(base / "runs" / "begun" / "last")
    model = checkpoint.model
    wanted = {
        "query text encoder": count_parameters(model.encoder_q),
        "POI text encoder": count_parameters(model.encoder_k),
        "location encoder": count_parameters(model.gc_encoder),
        "key location encoder": count_parameters(model.gc_encoder_shadow),
    }
    for stage in ("pretrain", "finetune"):
        found = dry(base, stage, "--json", "--batch-size", 4, "--init", "runs/begun").json()["parameters"]
        trainable = found.pop("trainable")
        assert found == wanted
        model.requires_grad_(True)
        model.train_for(stage)
        assert trainable == sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("source", ["auto", "runs/begun"])
def test_of_a_resumed_run(base: Path, source: str) -> None:
    name = ("--output-name", "begun") if source == "auto" else ()
    found = dry(base, "pretrain", "--json", "--resume", source, *name).json()
    assert (found["done"], found["steps"]) == (5, 3 * STEPS)
    assert found["seconds"] == pytest.approx(found["seconds_per_step"] * (3 * STEPS - 5))
    again = dry(base, "pretrain", "--json", "--resume", source, "--max-steps", 5, *name).json()
    assert (again["done"], again["steps"], again["seconds"]) == (5, 5, 0.0)


def test_the_run_after_it_is_the_run_without_it(base: Path) -> None:
    """Weights are thrown away, and chance is as it was."""
    weights = weights_of(base / "runs" / "begun" / "last")
    dry(base, "pretrain", "--resume", "auto", "--output-name", "begun")
    again = m3gal(
        *("pretrain", "-c", "data/tiny.yaml", "--runs-dir", "other", "--output-name", "begun", "--max-steps", 5)
    ).run
    for name, value in weights_of(again / "last").items():
        assert value.equal(weights[name])
    assert [r["fused_loss"] for r in steps(again)] == [r["fused_loss"] for r in steps(base / "runs" / "begun")]


def test_tables(base: Path) -> None:
    answer = dry(base, "pretrain", "--resume", "auto", "--output-name", "begun")
    assert answer.code == 0, answer.err
    text = " ".join(answer.out.split())
    assert "pretrain: shapes of a step" in text
    for row in ("│ queue │ 40 keys of text and of place, 16 wide │", f"│ steps │ 12 ({STEPS} an epoch), 5 done │"):
        assert row in text
    assert "16 texts of up to" in text
    assert "without validations" in text
    assert answer.err == "dry run: nothing was written\n"
    assert "none" in dry(base, "finetune", "--batch-size", 4).out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--batch-size", 100), "larger than the data"),
        (("--output-name", "begun"), "the run exists already"),
        (("--init", "nowhere"), "no such checkpoint"),
        (("--resume", "auto", "--init", "runs/begun"), "exclude each other"),
        (("--set", "data.views=missing.csv"), "missing.csv"),
        (("--resume", "runs/begun", "--moco-k", 50), "queue"),
    ],
)
def test_what_a_training_refuses_it_refuses(base: Path, more: tuple[object, ...], said: str) -> None:
    answer = dry(base, "pretrain", *more)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err


def test_json_needs_it(base: Path) -> None:
    answer = m3gal("pretrain", "-c", base / "data" / "tiny.yaml", "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "--json needs --dry-run" in answer.err
