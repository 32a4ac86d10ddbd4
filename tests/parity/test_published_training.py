"""Training with the published numerics gives the losses, weights and optimiser state of the published code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.helpers.cli import m3gal, steps, weights

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden"


@pytest.fixture(scope="module")
def runs_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("parity")


@pytest.fixture(scope="module")
def pretrained(golden: Path, runs_folder: Path) -> Path:
    """The run of pretrain.json; its gc_m of 0.5 is ``--moco-gc-m 0.5 --m-inc 0.5``."""
    return m3gal(
        *("pretrain", "--config", "paper.yaml", "--resume", golden / "initial.pth.tar"),
        *("--text-encoder", golden / "text_encoder", "--set", f"data.views={golden}/views.csv"),
        *("--set", "data.shuffle=false", "--set", "optim.max_steps=6", "--print-freq", 1, "--batch-size", 8),
        *("--moco-k", 32, "--lr", 0.05, "--gc-lr", 0.01, "--moco-m", 0.99, "--moco-gc-m", 0.5, "--m-inc", 0.5),
        *("--runs-dir", runs_folder, "--output-name", "pretrained"),
    ).run


def finetune(golden: Path, runs_folder: Path, train: Path, name: str, *options: str) -> Path:
    return m3gal(
        *("finetune", "--config", "paper.yaml", "--resume", golden / "checkpoint_0000_best.pth.tar"),
        *("--text-encoder", golden / "text_encoder", "--set", f"data.train={train}", "--set", "data.shuffle=false"),
        *("--set", "optim.max_steps=4", "--print-freq", 1, "--batch-size", 4, "--lr", 0.01, "--gc-lr", 0.01),
        *("--runs-dir", runs_folder, "--output-name", name, *options),
    ).run


def assert_same_losses(run: Path, golden: Path) -> None:
    wanted = json.loads(golden.read_text(encoding="utf-8"))["steps"]
    rows = steps(run)
    assert [row["step"] for row in rows] == list(range(1, len(wanted) + 1))
    for row, published in zip(rows, wanted, strict=True):
        own = [row[name] for name in ("text_loss", "location_loss", "fused_loss")]
        theirs = [published[name] for name in ("text_loss", "location_loss", "total_loss")]
        assert own == pytest.approx(theirs, abs=TOLERANCE)


def published_state(golden: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(golden / "checkpoint_0000_best.pth.tar", weights_only=True)
    return loaded


def assert_same_tensors(own: dict[str, torch.Tensor], published: dict[str, torch.Tensor]) -> None:
    """Compare state dicts without position_ids, a constant that later versions of transformers do not save."""
    wanted = {name: value for name, value in published.items() if not name.endswith(".position_ids")}
    assert set(own) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(own[name], value, atol=TOLERANCE, rtol=0, msg=lambda m, n=name: f"{n}: {m}")


def test_pretraining_losses_of_each_step_are_the_published_ones(pretrained: Path, golden: Path) -> None:
    assert_same_losses(pretrained, golden / "pretrain.json")
    assert {(row["lr"], row["location_lr"]) for row in steps(pretrained)} == {(0.05, 0.01)}


def test_weights_after_pretraining_are_the_published_ones(pretrained: Path, golden: Path) -> None:
    published = published_state(golden)["state_dict"]
    wanted = {k: v for k, v in published.items() if k.split(".")[0] not in ("queue", "gc_queue", "queue_ptr")}
    assert_same_tensors(weights(pretrained / "last"), wanted)


def test_the_published_file_holds_the_same_weights_queue_and_optimiser(pretrained: Path, golden: Path) -> None:
    published = published_state(golden)
    own = torch.load(pretrained / "checkpoint_0000_best.pth.tar", weights_only=True)
    assert own["epoch"] == published["epoch"]
    assert_same_tensors(own["state_dict"], published["state_dict"])
    wanted = published["optimizer"]["state"]
    assert set(own["optimizer"]["state"]) == set(wanted)
    for number, row in wanted.items():
        buffer = own["optimizer"]["state"][number]["momentum_buffer"]
        torch.testing.assert_close(buffer, row["momentum_buffer"], atol=TOLERANCE, rtol=TOLERANCE)
    decays = [[group["weight_decay"] for group in file["optimizer"]["param_groups"]] for file in (own, published)]
    assert decays == [[1e-4, 0.0]] * 2


@pytest.mark.parametrize("form", ["candidates.jsonl", "candidates_use_gis.pth"])
def test_finetuning_losses_of_each_step_are_the_published_ones(golden: Path, runs_folder: Path, form: str) -> None:
    run = finetune(golden, runs_folder, golden / form, f"finetuned-{form}")
    assert_same_losses(run, golden / "finetune.json")
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["data"]["max_chars"] == 64


def test_finetuning_truncates_texts_at_64_characters(golden: Path, runs_folder: Path) -> None:
    """With truncation at 8 characters the first loss differs, so the golden texts are long enough to test it."""
    train = golden / "candidates.jsonl"
    run = finetune(golden, runs_folder, train, "cut-at-8", "--set", "data.max_chars=8", "--max-steps", "1")
    first = json.loads((golden / "finetune.json").read_text(encoding="utf-8"))["steps"][0]
    assert abs(steps(run)[0]["text_loss"] - first["text_loss"]) > TOLERANCE
