"""Files of a run: logged rows, checkpoints, the best checkpoint; which parameters a training changes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from m3gal_cli.config.load import config_from_file
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.schedules import epoch_order
from tests.helpers.cli import file_contents, m3gal, steps, validations, weights
from tests.helpers.sample_town import STEPS, VIEWS, train
from tests.helpers.toy_models import toy_checkpoint

VALIDATION = "val_dataset_use_gis.jsonl"


@pytest.fixture(scope="module")
def run(profile: Path) -> Path:
    return train("pretrain", profile, "whole").run


def test_a_logged_row_is_the_mean_since_the_last_one(profile: Path, run: Path) -> None:
    """Every third step and the last one; a mean does not span the end of an epoch."""
    options = ("--log-every", 3, "--max-steps", 11, "--set", "run.validate_every=2")
    thinned_run = train("pretrain", profile, "thinned", *options).run
    fused = [row["fused_loss"] for row in steps(run)]
    means = {3: fused[0:3], 6: fused[4:6], 9: fused[8:9], 11: fused[9:11]}
    assert [row["step"] for row in steps(thinned_run)] == list(means)
    for row in steps(thinned_run):
        own = means[row["step"]]
        assert row["fused_loss"] == pytest.approx(sum(own) / len(own), abs=1e-6)
    assert [row["step"] for row in validations(thinned_run)] == [2 * STEPS, 11], "every second epoch and at the end"


def test_the_best_checkpoint_gives_the_best_validation_again(run: Path, profile: Path) -> None:
    recalls = [row["metrics"]["fused"]["recall@1"] for row in validations(run)]
    best = validations(run)[recalls.index(max(recalls))]
    assert (run / "best").resolve().name == f"step-{best['step']:08d}"
    found = m3gal("eval-rerank", "--checkpoint", run, "--json", "--no-bm25", "--test", profile.parent / VALIDATION)
    assert found.json()["metrics"] == best["metrics"]
    saved = load_checkpoint(run / "best")
    assert (saved.metrics["fused.recall@1"], saved.step) == (max(recalls), best["step"])


def test_files_of_a_run(run: Path, profile: Path, tmp_path: Path) -> None:
    files = {"config.yaml", "metrics.jsonl", "environment.json", "report.html", "checkpoints", "last", "best"}
    assert {p.name for p in run.iterdir()} == files
    linked = {(run / link).resolve() for link in ("last", "best")}
    assert {p.resolve() for p in (run / "checkpoints").iterdir()} == linked, "older checkpoints are removed"
    assert config_from_file(run / "config.yaml").model.scratch.hidden == 16
    assert [(row["step"], row["epoch"]) for row in steps(run)] == [(i + 1, i // STEPS) for i in range(3 * STEPS)]
    assert [(row["step"], row["epoch"]) for row in validations(run)] == [(STEPS * e, e) for e in (1, 2, 3)]
    moved = shutil.copytree(profile.parent, tmp_path / "moved", symlinks=True)
    for folder in (profile.parent, moved):
        data = config_from_file(folder / "runs" / run.name / "config.yaml").data
        assert data.dir == str(folder), "a moved project finds its data"
        assert data.views == str(folder / "same_poi_views_town.csv")
        assert data.poi == str(folder / "poi_database_town.csv")


@pytest.mark.parametrize(
    ("recalls", "best"), [([0.1, 0.5, 0.3], 2), ([0.0, 0.4, 0.4], 2), ([0.0, 0.0, 0.0], 1)], ids=str
)
def test_the_best_is_the_first_with_the_highest_fused_recall(
    profile: Path, monkeypatch: pytest.MonkeyPatch, recalls: list[float], best: int
) -> None:
    values = iter(recalls)

    def validate(*_: Any) -> Evaluation:
        value = next(values)
        metrics = {"text": {"recall@1": 1 - value}, "location": {"recall@1": 1 - value}, "fused": {"recall@1": value}}
        return Evaluation(12, 6, False, 0.0, metrics, {}, {}, {})

    monkeypatch.setattr("m3gal_cli.training.stage.make_validation", lambda *_: validate)
    name = "best-" + "-".join(map(str, recalls))
    answer = train("pretrain", profile, name, "--batch-size", 64, "--set", "eval.rerank=false")
    assert [(answer.run / link).resolve().name for link in ("best", "last")] == [f"step-0000000{best}", "step-00000003"]
    assert [line for line in answer.err.splitlines() if line.endswith("(best)")][-1].endswith(f"0{best} (best)")


def steps_kept(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir())


@pytest.mark.parametrize(("keep", "epochs"), [(0, [3]), (1, [2, 3]), (9, [1, 2, 3])])
def test_without_validation_records_the_last_is_the_best_and_older_ones_are_kept(
    profile: Path, tmp_path: Path, keep: int, epochs: list[int]
) -> None:
    shutil.copy(profile.parent / "same_poi_views_town.csv", tmp_path)
    own = train("pretrain", profile, f"keep-{keep}", "--data-dir", tmp_path, "--keep", keep).run
    assert validations(own) == []
    assert (own / "best").resolve() == (own / "last").resolve()
    assert steps_kept(own) == [STEPS * e for e in epochs]
    first = own / "checkpoints" / f"step-{STEPS * epochs[0]:08d}"
    assert load_checkpoint(first).step == STEPS * epochs[0]


def test_checkpoints_of_an_earlier_attempt_and_second_copies_are_removed(tmp_path: Path) -> None:
    """Folders with other names are not touched."""
    run = RunDirectory(tmp_path, keep=2)
    for name in ("step-00000001", "step-00000002", "step-00000002-2", "step-00000002-10", "step-00000009", "step-mine"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    checkpoint = toy_checkpoint(location_encoder="fourier")
    checkpoint.step = 5
    assert run.save(checkpoint, True).name == "step-00000005"
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {"step-00000001", "step-00000002-10", "step-00000005", "step-mine"}
    assert run.save(checkpoint, False).name == "step-00000005-2"
    assert run.best.resolve().name == "step-00000005"
    assert run.save(checkpoint, True).name == "step-00000005-3"
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == names ^ {"step-00000005", "step-00000005-3"}


def test_checkpoints_between_validations_do_not_change_the_training(profile: Path, run: Path) -> None:
    options = ("--save-every", 5, "--keep", 99, "--set", "run.validate_every=3")
    own = train("pretrain", profile, "saved", *options).run
    assert steps_kept(own) == [5, 10, 3 * STEPS]
    assert (own / "best").resolve() == (own / "last").resolve(), "only a validation selects the best"
    own_weights = weights(own / "last")
    assert all(torch.equal(own_weights[name], value) for name, value in weights(run / "last").items())
    epochs = [load_checkpoint(path).epoch for path in sorted((own / "checkpoints").iterdir())]
    assert epochs == [step // STEPS for step in steps_kept(own)]


def test_a_run_is_not_overwritten(run: Path, profile: Path) -> None:
    before = file_contents(run)
    answer = train("finetune", profile, run.name, "--batch-size", 4, "--seed", 8)
    assert (answer.code, answer.out) == (2, "")
    assert f"{run}: the run already exists" in answer.err
    assert "--resume auto" in answer.err
    assert file_contents(run) == before


def test_a_folder_without_a_checkpoint_is_used_for_a_new_run(profile: Path) -> None:
    folder = profile.parent / "runs" / "no-checkpoint"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')
    run = train("pretrain", profile, folder.name, "--max-steps", 2).run
    assert [row["step"] for row in steps(run)] == [1, 2]
    assert "fused_loss" in steps(run)[0]


def test_a_loss_that_is_not_finite_stops_the_run_before_that_step(profile: Path) -> None:
    diverging = ("--set", "optim.name=sgd", "--lr", 1e30)
    answer = train("pretrain", profile, "diverged", *diverging)
    assert (answer.code, answer.out) == (2, "")
    assert "losses or gradients are not finite at step 2 (rows " in answer.err
    assert "--lr" in answer.err
    run = profile.parent / "runs" / "diverged"
    failure = [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "rows" in row]
    rows = epoch_order(VIEWS, 0, seed=7)[16:32].tolist()
    assert failure == [{"kind": "failure", "step": 2, "epoch": 0, "rows": rows}]
    assert (run / "last").resolve().name == "step-00000001"
    assert (run / "report.html").is_file()
    one_step = train("pretrain", profile, "one-step", *diverging, "--max-steps", 1).run
    own, wanted = (load_checkpoint(path / "last").model.state_dict() for path in (run, one_step))
    trained = [name for name in own if name.startswith(("encoder_q.", "gc_encoder."))]
    assert all(torch.equal(own[name], wanted[name]) for name in trained)
    again = train("pretrain", profile, "diverged", "--set", "optim.name=sgd", "--lr", 1e-3, "--resume", "auto")
    assert again.code == 2, "weights of 1e30 have no finite loss at any learning rate"
    assert "not finite at step 2" in again.err


def test_a_refused_run_has_no_folder(profile: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_batch = ("--batch-size", 6, "--accumulate", 2, "--set", "optim.in_batch=true")
    answers = [train("finetune", profile, "refused", *in_batch)]
    answers += [train("pretrain", profile, "refused", "--set", "model.scratch.heads=3")]
    monkeypatch.setattr("accelerate.Accelerator.num_processes", 3)
    answers += [train("pretrain", profile, "refused")]
    messages = ("--encode-chunk", "hidden 16 is not a multiple of model.scratch.heads 3", "of the 3 processes")
    for answer, message in zip(answers, messages, strict=True):
        assert answer.code == 2
        assert message in answer.err
    assert not (profile.parent / "runs" / "refused").exists()


def changed_parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Return the parts of the model that changed by more than the rounding of the moving average."""
    return {name.split(".", 1)[0] for name, old in before.items() if (after[name] - old).abs().max() > 1e-6}


def test_frozen_weights_and_those_of_no_loss_do_not_change(profile: Path) -> None:
    start = weights(train("pretrain", profile, "start", "--max-steps", 0).run / "last")
    run = train("pretrain", profile, "frozen", "--set", "optim.freeze=[word_embeddings]", "--max-steps", 3).run
    trained = weights(run / "last")
    names = [name for name in start if name.startswith(("encoder_q.", "gc_encoder."))]
    unchanged = {name for name in names if torch.equal(trained[name], start[name])}
    assert unchanged == {name for name in names if "word_embeddings" in name or ".pooler." in name}
    assert changed_parts(start, trained) == {"encoder_q", "encoder_k", "gc_encoder", "gc_encoder_shadow"}
    key = "encoder_k.text_encoder.embeddings.word_embeddings.weight"  # the moving average of frozen weights
    torch.testing.assert_close(trained[key], start[key], atol=1e-6, rtol=0)
    text = train("pretrain", profile, "text", "--loss", "text_loss", "--max-steps", 3).run
    assert changed_parts(start, weights(text / "last")) == {"encoder_q", "encoder_k"}, "the text loss trains text only"
    options = ("--batch-size", 4, "--loss", "location", "--max-steps")
    base, own = (train("finetune", profile, f"location-{n}", *options, n).run / "last" for n in (0, 3))
    assert changed_parts(weights(base), weights(own)) == {"encoder_q", "gc_encoder_shadow"}


def test_a_name_with_a_slash_is_a_path() -> None:
    names = {"a": "runs/a", "x/y": "x/y"}
    assert all(RunDirectory.named("runs", name, "pretrain").path == Path(path) for name, path in names.items())
    assert RunDirectory.named("runs", None, "pretrain").path.name.startswith("pretrain-")
