"""``eval-retrieval``: files for other tools, vectors on the disk, and what is refused before the work."""

from __future__ import annotations

import os
from pathlib import Path

import ir_measures
import pytest

from m3gal_cli.encoders.encoder import TorchEncoder
from tests.helpers.cli import m3gal
from tests.helpers.sample_town import PLACES, SPLITS, record, write_lines, write_town
from tests.helpers.toy_models import weights_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrieval")
    profile = write_town(folder / "data")
    m3gal(
        "pretrain", "-c", profile, "--runs-dir", folder / "runs", "--output-name", "own", "--max-steps", 4
    ).run.resolve()
    return folder


def test_run_and_qrels_say_what_the_table_says(here: Path, tmp_path: Path) -> None:
    files = ("--run-file", tmp_path / "new" / "a.trec", "--qrels-file", tmp_path / "new" / "a.qrels")
    answer = m3gal("eval-retrieval", "--json", *files, "--run-depth", 20)
    assert answer.code == 0, answer.err
    run = list(ir_measures.read_trec_run(str(files[1])))
    assert len(run) == 20 * SPLITS["test"]
    assert {line.doc_id for line in run} <= {str(i) for i in range(PLACES)}
    measures = [ir_measures.R @ 1, ir_measures.R @ 5, ir_measures.RR @ 5]
    told = ir_measures.calc_aggregate(measures, ir_measures.read_trec_qrels(str(files[3])), run)
    fused = answer.json()["metrics"]["fused"]
    assert [told[m] for m in measures] == pytest.approx([fused["recall@1"], fused["recall@5"], fused["mrr@5"]])
    assert sorted(os.listdir(tmp_path / "new")) == ["a.qrels", "a.trec"]


def test_a_run_in_the_order_of_the_hybrid_score(here: Path, tmp_path: Path) -> None:
    """A tool finds the metrics of the row ``hybrid`` in it, and those of ``fused`` without --run-score."""
    asked = ("eval-retrieval", "--json", "--run-depth", 20, "--checkpoint", "runs/own")
    refused = m3gal(*asked, "--run-file", tmp_path / "a", "--run-score", "reranked")
    assert (refused.code, refused.out) == (2, "")
    assert "--run-score hybrid: this run has no hybrid score" in refused.err
    checkpoint = here / "runs" / "own" / "best"
    weights_of(dense=0.1, near_700m=1.0, near_2500m=1.0).save(checkpoint)
    try:
        measures = [ir_measures.R @ 1, ir_measures.R @ 5, ir_measures.RR @ 5]
        told = {}
        for kind, more in (("reranked", ("--run-score", "reranked")), ("fused", ())):
            files = ("--run-file", tmp_path / kind, "--qrels-file", tmp_path / "qrels")
            answer = m3gal(*asked, *files, *more)
            assert answer.code == 0, answer.err
            row = answer.json()["metrics"][kind]
            run, qrels = ir_measures.read_trec_run(str(files[1])), ir_measures.read_trec_qrels(str(files[3]))
            found = ir_measures.calc_aggregate(measures, qrels, run)
            told[kind] = [found[m] for m in measures]
            assert told[kind] == pytest.approx([row["recall@1"], row["recall@5"], row["mrr@5"]])
        assert told["reranked"] != told["fused"]
    finally:
        (checkpoint / "hybrid.json").unlink()


def test_vectors_of_texts_are_kept_and_taken_again(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = m3gal("eval-retrieval", "--json").json()["metrics"]
    first = m3gal("eval-retrieval", "--json", "--text-dir", tmp_path / "texts")
    assert first.json()["metrics"] == plain
    assert f"texts: {PLACES} encoded into {tmp_path}/texts" in first.err

    def encode(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(TorchEncoder, "poi_texts", encode)
    again = m3gal("eval-retrieval", "--json", "--text-dir", tmp_path / "texts")
    assert again.json()["metrics"] == plain
    assert f"texts: from {tmp_path}/texts" in again.err
    monkeypatch.undo()
    os.chdir(here)
    other = m3gal("eval-retrieval", "--json", "--text-dir", tmp_path / "texts", "--checkpoint", "runs/own/last")
    assert other.code == 0, "the same weights by another name"
    m3gal("pretrain", "-c", "data/tiny.yaml", "--output-name", "other", "--max-steps", 2)
    changed = m3gal("eval-retrieval", "--json", "--text-dir", tmp_path / "texts", "--checkpoint", "runs/other")
    assert f"{tmp_path}/texts: vectors of another model; they are made anew" in changed.err


def test_too_many_for_memory_go_beside_the_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("m3gal_cli.encoders.embedding_cache.BUDGET", 100)
    answer = m3gal("eval-retrieval", "--json", "--checkpoint", "runs/own")
    assert answer.code == 0, answer.err
    assert (here / "runs" / "own" / "texts" / "vectors" / "000000.npy").is_file()


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("recall@7=0.5", "no metric 'recall@7' of 'fused'"),
        ("lexical.recall@1=0.5", "no metric 'recall@1' of 'lexical'"),
        ("recall@100=0.5", "no metric 'recall@100' of 'fused'"),  # among 32 places
        ("bm25.recall@1=0.5", "no metric 'recall@1' of 'bm25'"),
    ],
)
@pytest.mark.parametrize("command", ["eval-retrieval", "eval-rerank"])
def test_a_check_of_nothing_is_refused_before_the_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, command: str, check: str, words: str
) -> None:
    def encode(*_: object) -> None:
        raise AssertionError("worked before it refused")

    monkeypatch.setattr(TorchEncoder, "queries", encode)
    monkeypatch.setattr(TorchEncoder, "poi_texts", encode)
    answer = m3gal(command, "--no-bm25", "--fail-under", check)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err


def test_a_check_of_an_unknown_name_needs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no metric 'recal@1'" in m3gal("eval-retrieval", "--fail-under", "recal@1=0.5").err


def test_a_run_by_an_unknown_score_needs_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = m3gal("eval-retrieval", "--run-file", "a.trec", "--run-score", "best")
    assert (answer.code, answer.out) == (2, "")
    assert "--run-score 'best' is none" in answer.err
    assert "fused, hybrid" in answer.err


def test_files_that_cannot_be_written_are_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for given, words in (
        (("--run-file", tmp_path), "is a folder, not a file"),
        (("--qrels-file", "file/a.qrels"), "cannot write there"),
        (("--run-file", "a", "--qrels-file", "./a"), "are one file"),
    ):
        answer = m3gal("eval-retrieval", *given)
        assert answer.code == 2
        assert words in answer.err
    assert os.listdir(tmp_path) == ["file"]


def test_a_folder_of_something_else(here: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    answer = m3gal("eval-retrieval", "--text-dir", tmp_path)
    assert answer.code == 2
    assert "something else than vectors of texts" in answer.err
    assert "--text-dir" in answer.err


def test_gold_that_is_in_no_table_is_told(here: Path, tmp_path: Path) -> None:
    far = {"docid": "x", "text": "nowhere", "gis": ["1.0,2.0"]}
    lines = write_lines(tmp_path / "some.jsonl", [record(0), record(1, positive_passages=[far])])
    files = ("--run-file", tmp_path / "a.trec", "--qrels-file", tmp_path / "a.qrels")
    answer = m3gal("eval-retrieval", "--json", "--test-dataset-filepath", lines, *files)
    assert answer.json()["notes"] == ["1 of 2 queries have no gold in the database: counted as misses"]
    assert (tmp_path / "a.qrels").read_text() == "1 0 0 1\n2 0 not-in-the-table 1\n"


def test_settings_of_a_run_of_before(here: Path) -> None:
    """eval.batch_size is no more: a run that has it is still evaluated, but nobody sets it."""
    path = here / "runs" / "own" / "config.yaml"
    before = path.read_text()
    assert "batch_tokens: null" in before
    path.write_text(before.replace("batch_tokens: null", "batch_size: 128"))
    assert m3gal("eval-rerank", "--json").code == 0
    path.write_text(before)
    refused = m3gal("eval-rerank", "--set", "eval.batch_size=64")
    assert refused.code == 2
    assert "unknown key 'eval.batch_size'" in refused.err
