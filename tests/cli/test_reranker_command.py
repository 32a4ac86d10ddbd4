"""``finetune --reranker`` and ``eval-rerank --reranker`` from the command line, on the town."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import m3gal, steps
from town import SPLITS, write_town

from m3gal_cli.data.records import read_records
from m3gal_cli.evaluation.metrics import rank_metrics
from m3gal_cli.retrieval.cross import CrossScorer
from m3gal_cli.training.assemble import open_cross


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The town's data, a run ``bi`` and, newer, a run ``cross`` that starts from it and mines by it."""
    folder = tmp_path_factory.mktemp("reranker")
    write_town(folder / "data")
    bi = m3gal("finetune", *given(folder, "bi"), "--epochs", 1)
    assert bi.code == 0, bi.err
    options = ("--init", folder / "runs" / "bi", "--mine", folder / "runs" / "bi", "--set", "optim.negatives=6")
    cross = m3gal("finetune", "--reranker", *given(folder, "cross"), *options)
    assert cross.code == 0, cross.err
    assert "loss: cross " in cross.err
    assert "location" not in cross.err
    return folder


def given(folder: Path, name: str) -> tuple[object, ...]:
    profile = folder / "data" / "tiny.yaml"
    return ("--config", profile, "--runs-dir", folder / "runs", "--output-name", name, "--batch-size", 4)


def test_the_row_cross_stands_beside_the_others(town: Path) -> None:
    runs = town / "runs"
    asked = ("eval-rerank", "--checkpoint", runs / "bi", "--reranker", runs / "cross", "--json")
    found = m3gal(*asked).json()
    assert list(found["metrics"]) == ["text", "location", "fused", "cross", "bm25"]
    assert found["reranker"] == str(runs / "cross")
    records = read_records(town / "data" / "test_dataset_use_gis.jsonl")
    scorer, ranks = CrossScorer(open_cross(runs / "cross")), []
    for record in records:
        values = scorer.scores([(record.query, p.text) for p in record.passages])
        ranks.append(1 + int((values[1:] >= values[0]).sum()))
    wanted = rank_metrics(np.array(ranks), len(records[0].passages))
    assert {name: found["metrics"]["cross"][name] for name in wanted} == pytest.approx(wanted)
    plain = m3gal("eval-rerank", "--checkpoint", runs / "bi", "--json").json()
    assert list(plain["metrics"]) == ["text", "location", "fused", "bm25"]
    assert "reranker" not in plain
    assert all(plain["metrics"][kind] == found["metrics"][kind] for kind in plain["metrics"])
    table = m3gal(*asked[:-1])
    assert "cross" in table.out


def test_checks_of_the_row(town: Path) -> None:
    asked = ("eval-rerank", "--checkpoint", town / "runs" / "bi")
    reranker = ("--reranker", town / "runs" / "cross")
    assert m3gal(*asked, *reranker, "--fail-under", "cross.recall@5=0").code == 0
    failed = m3gal(*asked, *reranker, "--fail-under", "cross.median_error_m=1e9")
    assert (failed.code, "cross median_error_m is" in failed.err) == (1, True)
    for command in ("eval-rerank", "eval-retrieval"):
        refused = m3gal(command, *asked[1:], "--fail-under", "cross.recall@1=0")
        assert refused.code == 2
        assert "no metric 'recall@1' of 'cross'" in refused.err


def test_each_kind_of_checkpoint_in_its_place(town: Path) -> None:
    bi, cross = town / "runs" / "bi", town / "runs" / "cross"
    for command in ("eval-rerank", "eval-retrieval", "predict"):
        answer = m3gal(command, "--checkpoint", cross, *(["-"] if command == "predict" else []), stdin="cafe\n")
        assert answer.code == 2
        assert "is a cross-encoder, and a bi-encoder is wanted" in answer.err
    answer = m3gal("eval-rerank", "--checkpoint", bi, "--reranker", bi)
    assert (answer.code, "is a bi-encoder, and a cross-encoder is wanted" in answer.err) == (2, True)
    for option in ("--resume", "--init"):
        answer = m3gal("finetune", *given(town, "never"), option, cross)
        assert (answer.code, "is a cross-encoder" in answer.err) == (2, True)
    answer = m3gal("finetune", "--reranker", *given(town, "never"), "--mine", cross)
    assert (answer.code, "is a cross-encoder" in answer.err) == (2, True)
    assert not (town / "runs" / "never").exists()


def test_the_newest_run_is_the_newest_bi_encoder(town: Path) -> None:
    answer = m3gal("eval-rerank", "--runs-dir", town / "runs", "--json")
    assert answer.json()["checkpoint"] == str(town / "runs" / "bi" / "best")


def test_refusals(town: Path) -> None:
    for more, words in (
        (("--mine", town / "runs" / "bi"), "--mine needs --reranker"),
        (("--reranker", "--text-encoder", "scratch", "--set", "model.max_length=6"), "leaves a pair of texts no room"),
        (("--reranker", "--set", "optim.in_batch=true"), "optim.in_batch"),
        (("--reranker", "--mine", town / "nowhere"), "no such checkpoint"),
    ):
        answer = m3gal("finetune", *given(town, "refused"), *more)
        assert answer.code == 2
        assert words in answer.err
    assert not (town / "runs" / "refused").exists()
    answer = m3gal("finetune", "--reranker", *given(town, "cross"))
    assert (answer.code, "the run exists already" in answer.err) == (2, True)
    assert m3gal("pretrain", "--reranker").code == 2


def test_a_dry_run(town: Path) -> None:
    before = sorted((town / "runs").iterdir())
    found = m3gal("finetune", "--reranker", *given(town, "dry"), "--dry-run", "--json").json()
    assert (found["stage"], found["rows"], found["queue"]) == ("reranker", SPLITS["train"], None)
    assert found["pairs"]["texts"] == 4 * 6
    assert set(found["parameters"]) == {"text encoder", "score", "trainable"}
    assert "queries" not in found
    assert sorted((town / "runs").iterdir()) == before


def test_mined_negatives_make_other_steps(town: Path) -> None:
    plain = m3gal("finetune", "--reranker", *given(town, "plain"), "--init", town / "runs" / "bi", "--max-steps", 1)
    drawn = steps(town / "runs" / "cross")[0]
    assert steps(plain.run)[0]["cross_loss"] != drawn["cross_loss"]


def test_the_profile_of_a_reranker(town: Path) -> None:
    """Without --config the settings are those of reranker.yaml; its run says so."""
    data, runs = town / "data", town / "runs"
    options = ("--text-encoder", "scratch", "--data-dir", data, "--runs-dir", runs, "--output-name", "profile")
    run = m3gal("finetune", "--reranker", *options, "--max-steps", 1, "--device", "cpu").run
    settings = (run / "config.yaml").read_text()
    assert "word_embeddings" in settings
    assert "max_length: 96" in settings
