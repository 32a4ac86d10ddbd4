"""What a run leaves behind: its files, the best checkpoint, the logged fields; and the encoder from scratch."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from m3gal_cli.config.load import config_from_file, load_config
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.core.tiny_encoder import train_tokenizer
from m3gal_cli.encoders.checkpoint_lookup import find_checkpoint, newest_run, run_of
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.result import Evaluation
from m3gal_cli.training import pipelines as stages
from m3gal_cli.training.pipelines import Start, run_pretrain
from m3gal_cli.training.rng_state import epoch_order
from m3gal_cli.training.run_directory import RunDirectory
from tests.helpers.cli import m3gal, steps, validations, weights
from tests.helpers.sample_town import STEPS, VIEWS, views, write_town
from tests.helpers.toy_models import toy_checkpoint

STEP_FIELDS = {"kind", "step", "epoch", "text_loss", "location_loss", "fused_loss", "lr", "location_lr"}
RATES = {"samples_per_second", "tokens_per_second", "device_memory_mb"}
SEEN = {"grad_norm", "queue_accuracy", "spread", "alignment", "uniformity", "queue_age"}


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("runs"))


def given(profile: Path, name: str, *more: object) -> tuple[object, ...]:
    return ("--config", profile, "--runs-dir", profile.parent / "runs", "--output-name", name, *more)


@pytest.fixture(scope="module")
def run(profile: Path) -> Path:
    return m3gal("pretrain", *given(profile, "whole")).run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_files_of_a_run(run: Path, profile: Path) -> None:
    made = {"config.yaml", "metrics.jsonl", "environment.json", "report.html", "progress.png"}
    assert {p.name for p in run.iterdir()} == made | {"checkpoints", "last", "best"}
    kept = {(run / link).resolve() for link in ("last", "best")}
    assert {p.resolve() for p in (run / "checkpoints").iterdir()} == kept, "older ones go"
    assert not Path(run / "last").readlink().is_absolute(), "a run can be moved"
    settings = config_from_file(run / "config.yaml")
    assert settings.data.views == str(profile.parent / "same_poi_views_town.csv")
    assert settings.data.poi == str(profile.parent / "poi_database_town.csv")
    assert settings.model.scratch.hidden == 16


def test_logged_fields(run: Path) -> None:
    rows = steps(run)
    assert [row["step"] for row in rows] == list(range(1, 3 * STEPS + 1))
    for row in rows:
        assert set(row) == STEP_FIELDS | RATES | SEEN
        assert row["epoch"] == (row["step"] - 1) // STEPS
        assert row["samples_per_second"] > 0
        assert all(math.isfinite(row[name]) for name in ("text_loss", "location_loss", "fused_loss"))
    found = validations(run)
    assert [(row["step"], row["epoch"]) for row in found] == [(STEPS * e, e) for e in (1, 2, 3)]
    for row in found:
        assert set(row) == {"kind", "step", "epoch", "n_queries", "seconds", "metrics"}
        assert row["n_queries"] == 12
        assert set(row["metrics"]) == {"text", "location", "fused"}
        assert {"recall@1", "recall@3", "recall@5", "mrr@5"} <= set(row["metrics"]["fused"])


def test_a_logged_line_is_the_mean_since_the_last_one(profile: Path, run: Path) -> None:
    """Every third step and the last one; a mean does not reach over an epoch's end."""
    thinned = steps(m3gal("pretrain", *given(profile, "thinned", "--print-freq", 3, "--max-steps", 11)).run)
    fused = [row["fused_loss"] for row in steps(run)]
    means = {3: fused[0:3], 6: fused[4:6], 9: fused[8:9], 11: fused[9:11]}
    assert [row["step"] for row in thinned] == list(means)
    for row in thinned:
        own = means[row["step"]]
        assert row["fused_loss"] == pytest.approx(sum(own) / len(own), abs=1e-6)


def test_the_best_checkpoint_gives_the_best_validation_again(run: Path, profile: Path) -> None:
    recalls = [row["metrics"]["fused"]["recall@1"] for row in validations(run)]
    best = validations(run)[recalls.index(max(recalls))]
    assert (run / "best").resolve().name == f"step-{best['step']:08d}"
    for checkpoint in (run, run / "best"):  # a run stands for its best checkpoint
        found = m3gal(
            *("eval-rerank", "--checkpoint", checkpoint, "--json", "--no-bm25"),
            *("--test-dataset-filepath", profile.parent / "val_dataset_use_gis.jsonl"),
        ).json()
        assert found["metrics"] == best["metrics"]
    saved = load_checkpoint(run / "best")
    assert saved.metrics["fused.recall@1"] == max(recalls)
    assert saved.step == best["step"]


@pytest.mark.parametrize(
    ("recalls", "best"),
    [([0.1, 0.5, 0.3], 2), ([0.5, 0.3, 0.1], 1), ([0.1, 0.2, 0.3], 3), ([0.0, 0.4, 0.4], 2), ([0.0, 0.0, 0.0], 1)],
    ids=str,
)
def test_the_best_is_the_first_with_the_highest_fused_recall(
    profile: Path, monkeypatch: pytest.MonkeyPatch, recalls: list[float], best: int
) -> None:
    told = iter(recalls)

    def validate(*_: Any) -> Evaluation:
        value = next(told)
        metrics = {"text": {"recall@1": 1 - value}, "location": {"recall@1": 1 - value}, "fused": {"recall@1": value}}
        return Evaluation(12, 6, False, 0.0, metrics, {}, {}, {})

    class Heard:
        def __init__(self) -> None:
            self.best: list[bool] = []

        def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None: ...
        def step(self, row: dict[str, Any]) -> None: ...
        def advance(self, done: int) -> None: ...
        def validation(self, row: dict[str, Any]) -> None: ...
        def warning(self, row: dict[str, Any]) -> None: ...
        def saved(self, path: Any, best: bool) -> None:
            self.best.append(best)

    monkeypatch.setattr(stages, "validation_of", lambda *_: validate)
    name = "best-" + "-".join(map(str, recalls))
    sets = [f"run.dir={profile.parent}/runs", f"run.name={name}", "optim.batch_size=64"]
    listener = Heard()
    path = run_pretrain(load_config(str(profile), {}, sets), Start(), listener).path
    assert (path / "best").resolve().name == f"step-{best:08d}"
    assert (path / "last").resolve().name == "step-00000003"
    assert [i + 1 for i, flag in enumerate(listener.best) if flag][-1] == best


def test_without_validation_records_the_last_is_the_best(profile: Path) -> None:
    folder = profile.parent / "no-val"
    folder.mkdir()
    shutil.copy(profile.parent / "same_poi_views_town.csv", folder)
    run = m3gal("pretrain", *given(profile, "no-val", "--data-dir", folder, "--epochs", 2)).run
    assert validations(run) == []
    assert (run / "best").resolve() == (run / "last").resolve()
    assert (run / "last").resolve().name == f"step-{2 * STEPS:08d}"


def test_validation_every_second_epoch_and_at_the_end(profile: Path) -> None:
    run = m3gal("pretrain", *given(profile, "seldom", "--set", "run.validate_every=2", "--epochs", 3)).run
    assert [row["step"] for row in validations(run)] == [2 * STEPS, 3 * STEPS]


def steps_kept(run: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").iterdir())


def test_older_checkpoints_are_kept(profile: Path) -> None:
    """The newest of those that are neither last nor best."""
    folder = profile.parent / "no-val-keep"
    folder.mkdir()
    shutil.copy(profile.parent / "same_poi_views_town.csv", folder)
    more = ("--data-dir", folder, "--epochs", 5)  # nothing to validate on: the last is the best
    assert steps_kept(m3gal("pretrain", *given(profile, "keep-0", *more)).run) == [5 * STEPS]
    assert steps_kept(m3gal("pretrain", *given(profile, "keep-2", *more, "--keep", 2)).run) == [
        STEPS * e for e in (3, 4, 5)
    ]
    run = m3gal("pretrain", *given(profile, "keep-9", *more, "--keep", 9)).run
    assert steps_kept(run) == [STEPS * e for e in (1, 2, 3, 4, 5)]
    assert [load_checkpoint(run / "checkpoints" / f"step-{STEPS * e:08d}").step for e in (1, 4)] == [STEPS, 4 * STEPS]


def test_what_is_kept_of_a_run(tmp_path: Path) -> None:
    """Not what an earlier try left beyond the step, nor a second copy of one; other folders are nobody's business."""
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


@pytest.mark.parametrize("every", [1, 3, STEPS])
def test_checkpoints_between_validations(profile: Path, run: Path, every: int) -> None:
    """They change nothing of what is learned, and are no best ones."""
    more = ("--save-every", every, "--keep", 99, "--set", "run.validate_every=3")
    own = m3gal("pretrain", *given(profile, f"every-{every}", *more)).run
    total = 3 * STEPS
    assert steps_kept(own) == sorted({*range(every, total + 1, every), total})
    assert (own / "best").resolve() == (own / "last").resolve()
    for name, value in weights(run / "last").items():
        assert torch.equal(weights(own / "last")[name], value)
    epochs = [load_checkpoint(path).epoch for path in sorted((own / "checkpoints").iterdir())]
    assert epochs == [step // STEPS for step in steps_kept(own)]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_run_is_not_overwritten(run: Path, profile: Path, stage: str) -> None:
    before = contents(run)
    answer = m3gal(stage, *given(profile, run.name, "--batch-size", 4, "--seed", 8))
    assert (answer.code, answer.out) == (2, "")
    assert f"{run}: the run exists already" in answer.err
    assert "--resume auto" in answer.err
    assert contents(run) == before


def test_a_run_that_saved_nothing_is_begun_anew(profile: Path) -> None:
    folder = profile.parent / "runs" / "stillborn"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"kind": "step", "step": 1}\n')
    run = m3gal("pretrain", *given(profile, "stillborn", "--max-steps", 2)).run
    assert [row["step"] for row in steps(run)] == [1, 2]
    assert "fused_loss" in steps(run)[0]


def test_a_loss_that_is_no_number_stops_the_run(profile: Path) -> None:
    answer = m3gal("pretrain", *given(profile, "diverged", "--lr", 1e30, "--set", "optim.name=sgd"))
    assert (answer.code, answer.out) == (2, "")
    assert "losses or gradients are not finite at step 2 (rows " in answer.err
    assert "--lr" in answer.err
    run = profile.parent / "runs" / "diverged"
    failure = [row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if "rows" in row]
    order = epoch_order(VIEWS, 0, config_from_file(run / "config.yaml"))
    assert failure == [{"kind": "failure", "step": 2, "epoch": 0, "rows": order[16:32].tolist()}]
    assert (run / "last").resolve().name == "step-00000001"
    # What is saved are the weights before: those of a run that was told to end there, and it goes on from there.
    wanted = m3gal("pretrain", *given(profile, "short", "--lr", 1e30, "--set", "optim.name=sgd", "--max-steps", 1)).run
    own, other = (load_checkpoint(path / "last").model.state_dict() for path in (run, wanted))
    trained = [name for name in own if name.startswith(("encoder_q.", "gc_encoder."))]
    assert all(torch.equal(own[name], other[name]) for name in trained)
    again = m3gal("pretrain", *given(profile, "diverged", "--lr", 1e-3, "--set", "optim.name=sgd", "--resume", "auto"))
    assert again.code == 2, "weights of 1e30 have no second step, whatever the rate"
    assert "not finite at step 2" in again.err


def moved_parts(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    """Parts of the model that changed by more than the rounding of an average of equals."""
    return {name.split(".", 1)[0] for name, old in before.items() if (after[name] - old).abs().max() > 1e-6}


def test_frozen_weights_stay(profile: Path) -> None:
    start = weights(m3gal("pretrain", *given(profile, "start", "--max-steps", 0)).run / "last")
    run = m3gal("pretrain", *given(profile, "frozen", "--set", "optim.freeze=[word_embeddings]")).run
    trained = weights(run / "last")
    names = [name for name in start if name.startswith(("encoder_q.", "gc_encoder."))]
    stay = {name for name in names if torch.equal(trained[name], start[name])}
    assert stay == {name for name in names if "word_embeddings" in name or ".pooler." in name}
    assert moved_parts(start, trained) == {"encoder_q", "encoder_k", "gc_encoder", "gc_encoder_shadow"}
    key = "encoder_k.text_encoder.embeddings.word_embeddings.weight"  # trails what stays
    torch.testing.assert_close(trained[key], start[key], atol=1e-6, rtol=0)


def test_the_loss_decides_what_learns(profile: Path) -> None:
    """From the text loss nothing reaches the location encoder; in finetuning, from the location loss no candidate."""
    start = weights(m3gal("pretrain", *given(profile, "start-2", "--max-steps", 0)).run / "last")
    text = m3gal("pretrain", *given(profile, "text", "--loss", "text_loss", "--max-steps", 3)).run
    trained = weights(text / "last")
    assert moved_parts(start, trained) == {"encoder_q", "encoder_k"}
    assert yaml.safe_load((text / "config.yaml").read_text())["optim"]["loss"] == "text"
    base = m3gal("finetune", *given(profile, "base", "--batch-size", 4, "--max-steps", 0)).run
    location = m3gal("finetune", *given(profile, "location", "--batch-size", 4, "--loss", "location")).run
    before, after = (weights(r / "last") for r in (base, location))
    assert moved_parts(before, after) == {"encoder_q", "gc_encoder_shadow"}


def test_scratch_encoder(profile: Path) -> None:
    """Of the asked shape, with the views' own vocabulary; both sides start equal; the seed decides the weights."""
    runs = {
        seed: m3gal("pretrain", *given(profile, f"s{seed}", "--max-steps", 0, "--seed", seed)).run for seed in (1, 2)
    }
    again = m3gal("pretrain", *given(profile, "s1-again", "--max-steps", 0, "--seed", 1)).run
    found = {k: weights(r / "last") for k, r in [*runs.items(), ("again", again)]}
    assert all(torch.equal(value, found["again"][name]) for name, value in found[1].items())
    assert any(not torch.equal(value, found[2][name]) for name, value in found[1].items())
    for key, online in (("encoder_k.", "encoder_q."), ("gc_encoder_shadow.", "gc_encoder.")):
        pairs = [
            (value, found[1][name.replace(key, online, 1)]) for name, value in found[1].items() if name.startswith(key)
        ]
        assert pairs
        assert all(torch.equal(a, b) for a, b in pairs)
    shape = json.loads((again / "last" / "query_encoder" / "config.json").read_text())
    assert (shape["hidden_size"], shape["num_hidden_layers"], shape["num_attention_heads"]) == (16, 1, 2)
    checkpoint = load_checkpoint(again / "last")
    vocabulary = checkpoint.tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(shape["vocab_size"]))
    words = {w for row in views() for text in row[:2] for w in text.split()}
    assert "[UNK]" not in checkpoint.tokenizer.tokenize(" ".join(sorted(words)))
    assert set("".join(words)) >= set("".join(t.removeprefix("##") for t in vocabulary if not t.startswith("[")))


def test_equal_texts_give_equal_vocabularies() -> None:
    """And signs that stand for special or inner tokens are no tokens when typed."""
    texts = [text for row in views() for text in row[:2]] + ["莫干山路 东村", "Äpfel"]
    made = [train_tokenizer(iter(texts), 200) for _ in range(8)]
    assert len({t.backend_tokenizer.to_str() for t in made}) == 1
    assert len(made[0]) <= 200
    tokenizer = made[0]
    assert tokenizer.convert_ids_to_tokens(tokenizer("莫干 APFEL")["input_ids"])[:3] == ["[CLS]", "莫", "干"]
    assert "[UNK]" not in tokenizer.tokenize("apfel")
    assert tokenizer.tokenize("##a") == ["[UNK]", "[UNK]", "a"]


def test_heads_must_divide_the_width(profile: Path) -> None:
    answer = m3gal("pretrain", *given(profile, "uneven", "--set", "model.scratch.heads=3"))
    assert answer.code == 2
    assert "model.scratch.hidden 16 is no multiple of model.scratch.heads 3" in answer.err
    assert not (profile.parent / "runs" / "uneven").exists()


def test_names_and_paths_of_runs(tmp_path: Path, run: Path) -> None:
    assert RunDirectory.named("runs", "a", "pretrain").path == Path("runs/a")
    assert RunDirectory.named("runs", "x/y", "pretrain").path == Path("x/y")
    assert RunDirectory.named("runs", None, "pretrain").path.name.startswith("pretrain-")
    assert find_checkpoint(run) == run / "best"
    assert find_checkpoint(run / "last") == run / "last"
    for checkpoint in (run / "best", run / "last", (run / "last").resolve()):
        assert run_of(checkpoint) is not None
        assert run_of(checkpoint).resolve() == run.resolve()  # type: ignore[union-attr]
    assert run_of(tmp_path) is None
    with pytest.raises(InputError, match="no run with a checkpoint"):
        newest_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    with pytest.raises(InputError, match="no such checkpoint"):
        find_checkpoint(tmp_path / "gone.pth.tar")
