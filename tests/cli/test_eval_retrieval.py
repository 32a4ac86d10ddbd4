"""``eval-retrieval``: TREC files, cached vectors of texts, and errors before the evaluation."""

from __future__ import annotations

import json
import os
from pathlib import Path

import ir_measures
import pytest

from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.text.perturbations import PERTURBATIONS
from tests.helpers.cli import m3gal
from tests.helpers.sample_town import PLACES, SPLITS, record, town_with_run, write_lines
from tests.helpers.toy_models import reranker_weights


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return town_with_run(tmp_path_factory.mktemp("retrieval"), "own", 4)


def test_run_and_qrels_give_the_metrics_of_the_table(here: Path, tmp_path: Path) -> None:
    command = ("eval-retrieval", "--json", "--run-depth", 20, "--checkpoint", "runs/own")
    refused = m3gal(*command, "--no-rerank", "--run-file", tmp_path / "a", "--run-score", "reranked")
    assert (refused.code, refused.out) == (2, "")
    assert "--run-score reranked: there is no reranker" in refused.err
    weights = reranker_weights(dense_score=0.1, nearness_700m=1.0, nearness_2500m=1.0)
    weights.save(here / "runs" / "own" / "best")
    measures = [ir_measures.R @ 1, ir_measures.R @ 5, ir_measures.RR @ 5]
    values = {}
    for kind, more in (("reranked", ("--run-score", "reranked")), ("fused", ())):
        files = ("--run-file", tmp_path / "new" / kind, "--qrels-file", tmp_path / "new" / "qrels")
        answer = m3gal(*command, "--rerank", *files, *more)
        assert answer.code == 0, answer.err
        row = answer.json()["metrics"][kind]
        run, qrels = list(ir_measures.read_trec_run(str(files[1]))), ir_measures.read_trec_qrels(str(files[3]))
        assert len(run) == 20 * SPLITS["test"]
        assert {line.doc_id for line in run} <= {str(i) for i in range(PLACES)}
        found = ir_measures.calc_aggregate(measures, qrels, run)
        values[kind] = [found[m] for m in measures]
        assert values[kind] == pytest.approx([row["recall@1"], row["recall@5"], row["mrr@5"]])
    assert values["reranked"] != values["fused"]
    assert sorted(os.listdir(tmp_path / "new")) == ["fused", "qrels", "reranked"]


def test_misses_calibration_and_robustness_have_the_same_numbers_everywhere(here: Path, tmp_path: Path) -> None:
    errors = tmp_path / "errors.html", tmp_path / "errors.jsonl"
    answer = m3gal("eval-retrieval", "--rerank", "--perturb", "--errors", errors[0], "--errors", errors[1], "--json")
    assert answer.code == 0, answer.err
    found = answer.json()
    rows = [json.loads(line) for line in errors[1].read_text("utf-8").splitlines()]
    assert len(rows) == round(found["n_queries"] * (1 - found["metrics"]["reranked"]["recall@1"])) > 0
    page = errors[0].read_text("utf-8")
    assert f"{len(rows)} of {found['n_queries']} queries do not have their gold first by the reranked score" in page
    assert all(row["gold"]["poi_id"].isdigit() and len(row["answers"]) == 5 for row in rows)
    calibration = found["calibration"]
    assert calibration["n_answerable"] == calibration["n_unanswerable"] == found["n_queries"]
    assert sum(one["count"] for one in calibration["bins"]) == 2 * found["n_queries"]
    assert calibration.keys() >= {"ece", "auc", "answered", "threshold", "precision"}
    assert list(found["robustness"]) == ["unchanged", *PERTURBATIONS]
    assert found["robustness"]["unchanged"]["recall@1"] == found["metrics"]["reranked"]["recall@1"]
    shown = m3gal("eval-retrieval", "--rerank", "--perturb").out
    for text in ("answered at 95% precision", "reliability of the first answer", "reranked score of changed queries"):
        assert text in shown
    assert f"{calibration['ece']:.3f}" in shown
    without = m3gal("eval-retrieval", "--no-rerank", "--perturb")
    assert "calibration" not in without.out
    assert "fused score of changed queries" in without.out


def test_vectors_of_texts_are_reused(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = m3gal("eval-retrieval", "--json").json()["metrics"]
    first = m3gal("eval-retrieval", "--json", "--text-dir", tmp_path / "texts")
    assert first.json()["metrics"] == plain
    assert f"texts: {PLACES} encoded into {tmp_path}/texts" in first.err

    def encode(*_: object) -> None:
        raise AssertionError("texts are encoded again")

    monkeypatch.setattr(TorchEncoder, "encode_poi_texts", encode)
    again = m3gal("eval-retrieval", "--json", "--text-dir", tmp_path / "texts")
    assert again.json()["metrics"] == plain
    assert f"texts: from {tmp_path}/texts" in again.err
    other = m3gal("eval-retrieval", "--json", "--text-dir", tmp_path / "texts", "--checkpoint", "runs/own/last")
    assert other.code == 0, "the same weights under another path"


@pytest.mark.parametrize(
    ("check", "words"),
    [("recall@100=0.5", "no metric 'recall@100'"), ("sparse.recall@1=0.5", "no score 'sparse'")],  # among 32 places
)
@pytest.mark.parametrize("command", ["eval-retrieval", "eval-rerank"])
def test_a_check_of_an_absent_metric_is_refused_before_the_evaluation(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: str, check: str, words: str
) -> None:
    def encode(*_: object) -> None:
        raise AssertionError("the evaluation has begun")

    monkeypatch.setattr(TorchEncoder, "encode_queries", encode)
    monkeypatch.setattr(TorchEncoder, "encode_poi_texts", encode)
    answer = m3gal(command, "--no-sparse", "--fail-under", check)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_unwritable_files_and_unknown_scores_are_refused_before_the_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for given, words in (
        (("--run-file", tmp_path), "is a folder, not a file"),
        (("--qrels-file", "file/a.qrels"), "cannot write there"),
        (("--run-file", "a", "--qrels-file", "./a"), "are the same file"),
        (("--run-file", "a.trec", "--run-score", "best"), "--run-score: unknown score 'best'"),
        (("--errors", "a.csv"), "--errors: unknown format"),
        (("--errors", "a.html", "--errors", "./a.html"), "are the same file"),
        (("--errors", "file/a.html"), "cannot write there"),
    ):
        answer = m3gal("eval-retrieval", *given)
        assert answer.code == 2
        assert words in answer.err
    assert os.listdir(tmp_path) == ["file"]


def test_queries_without_gold_in_the_table_are_noted(here: Path, tmp_path: Path) -> None:
    far = {"docid": "x", "text": "nowhere", "gis": ["1.0,2.0"]}
    lines = write_lines(tmp_path / "some.jsonl", [record(0), record(1, positive_passages=[far])])
    files = ("--run-file", tmp_path / "a.trec", "--qrels-file", tmp_path / "a.qrels")
    answer = m3gal("eval-retrieval", "--json", "--test", lines, *files)
    assert answer.json()["notes"] == ["1 of 2 queries have no gold in the database: counted as misses"]
    assert (tmp_path / "a.qrels").read_text() == "1 0 0 1\n2 0 not-in-the-table 1\n"
