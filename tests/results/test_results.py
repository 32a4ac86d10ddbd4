"""The whole command on a made-up folder: it runs what is not there yet, and prints what is."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import results
from quality import drive, methods, ours, sentence
from quality.baselines import bm25
from quality.board import Board
from quality.folds import Fold, Plan, Source, make_fold
from quality.job import Job, Options, Result
from quality.store import Store

from m3gal_cli.data.records import Record, read_records
from m3gal_cli.errors import InputError
from m3gal_cli.evaluation.ranks import gold_ranks
from m3gal_cli.text.bm25 import LexicalIndex
from tests.helpers.cli import m3gal
from tests.helpers.sample_town import PROFILE, record

CHEAP = ["--methods", "bm25", "bm25 + distance"]
PLAN = Plan(validation=6)


def command(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """``python benchmarks/results.py WORDS``; its exit code."""
    monkeypatch.setattr(sys, "argv", ["results.py", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        results.main()
    return int(stopped.value.code or 0)


def test_it_runs_what_is_not_there_and_prints_what_is(
    geotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", geotes, "--folder", tmp_path / "kept", "--validation", 6, *CHEAP]
    assert command(monkeypatch, *common, "--folds", 0, 1) == 0
    assert len(Store(tmp_path / "kept" / results.STORE).lines()) == 4
    first = capsys.readouterr()
    assert "[4/4] bm25 + distance, fold 1" in first.err
    assert first.out.count("\n| bm25") == 2
    assert first.out.count("| 2 × 1 |") == 2
    assert command(monkeypatch, *common, "--seeds", 5, 6) == 0  # no seed changes them
    second = capsys.readouterr()
    assert "[8/8]" in second.err
    assert "[9/" not in second.err
    assert second.out.count("| 5 × 1 |") == second.out.count("| 1 × 1 |") == 2
    assert command(monkeypatch, *common, "--table", "--against", "bm25") == 0
    third = capsys.readouterr()
    assert third.err == ""
    assert second.out.splitlines()[:6] == third.out.splitlines()[:6]
    assert third.out.count("| less bm25 |") == 2
    assert command(monkeypatch, *common, "--errors", "bm25") == 0
    assert "# bm25: " in capsys.readouterr().out
    assert (tmp_path / "kept" / results.ERRORS).is_file()


def in_this_process(*words: object, log: Path) -> None:
    """Stands in for a command in a process of its own, which takes its time to import torch."""
    answer = m3gal(*words)
    assert answer.code == 0, answer.err
    log.write_text(answer.err, encoding="utf-8")


def test_what_it_refuses(
    geotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--data", geotes, "--folder", tmp_path / "kept", "--validation", 6]
    wrong = {"no method 'bm26'": ["--methods", "bm26"], "no number": [*CHEAP, "--queries", "many"]}
    wrong |= {"no row 'x'": [*CHEAP, "--table", "--against", "x"], "no fold '9'": [*CHEAP, "--folds", 9]}
    for text, words in wrong.items():
        assert command(monkeypatch, *common, *words) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_ranks_of_bm25_are_those_of_all_scores(geotes: Path, tmp_path: Path) -> None:
    fold = make_fold(Source(geotes), "0", PLAN)
    found = bm25(Job(fold, 0, None, tmp_path, Options("none", None, None, tmp_path))).rows[""]
    lexical = LexicalIndex(fold.pois["address"])
    rows = list(zip(fold.pois["address"], fold.pois["lng"], fold.pois["lat"], strict=True))
    for query, rank in zip(fold.test, found.ranks, strict=True):
        gold = np.array([row == (p.text, p.lng, p.lat) for row in rows for p in query.positives])
        assert rank == gold_ranks(lexical.scores(query.query)[None], gold[None])[0]


def test_a_method_that_fails_does_not_stop_the_others(geotes: Path, tmp_path: Path) -> None:
    def broken(job: Job) -> Result:
        raise InputError("no such thing")

    first = methods.chosen(["bm25"])[0]
    asked = drive.Asked([replace(first, name="broken", run=broken), first], ["0"], [1], [None], PLAN)
    store = Store(tmp_path / "results.jsonl")
    failed = drive.run_all(Source(geotes), asked, Options("none", None, None, tmp_path), store)
    assert [text.partition(":")[0] for text in failed] == ["broken, fold 0, seed 0, labels all"]
    assert [line["method"] for line in store.lines()] == ["bm25"]


def test_which_runs_are_asked_for_and_what_their_hash_is_of() -> None:
    options = Options("/models/e5", Path("a.osm.pbf"), None, Path())
    asked = drive.Asked(methods.METHODS, ["0", "dev"], [1, 2], [0, 50, None], PLAN)
    wanted = [key for _, key, _ in drive.keys(asked, options, "d")]
    assert len(set(wanted)) == len(wanted)
    count = {m.name: sum(key.method == m.name for key in wanted) for m in methods.METHODS}
    assert (count["bm25"], count["sentence-transformers"], count["ours"]) == (2, 4, 12)
    hashes = {(key.method, key.hash) for key in wanted}
    assert len(hashes) == len(methods.METHODS)

    def changed(options: Options = options, data: str = "d", plan: Plan = PLAN) -> set[str]:
        other = drive.Asked(methods.METHODS, ["0"], [1], [None], plan)
        new = {(key.method, key.hash) for _, key, _ in drive.keys(other, options, data)}
        return {name for name, _ in new - hashes}

    everything = {m.name for m in methods.METHODS}
    assert changed(data="other") == changed(plan=Plan()) == everything
    assert changed(replace(options, folder=Path("elsewhere"), encoder="/other/e5")) == set()
    assert changed(replace(options, extract=Path("b.osm.pbf"))) == {
        name for name in everything if name == "ours, pretrained" or name.startswith("one training")
    }
    assert changed(replace(options, encoder="/models/bert")) == everything - {"bm25", "bm25 + distance"}


def test_a_training_of_ours_from_the_profile_to_its_rows(
    geotes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "m3gal", in_this_process)
    profile = tmp_path / "tiny.yaml"
    profile.write_text(PROFILE.replace("data: {dir: FOLDER}\n", "").replace("epochs: 3", "epochs: 1"), encoding="utf-8")
    recipe = ours.Recipe("tiny", str(profile), ("optim.batch_size=8",))
    assert recipe.settings(Options("scratch", None, None, tmp_path))["optim"]["batch_size"] == 8
    fold = make_fold(Source(geotes), "0", Plan(validation=20))  # enough to learn the weights of the hybrid score on
    job = Job(fold, 3, None, tmp_path / "job", Options("scratch", None, None, tmp_path), timed=True)
    result = recipe.run(job)
    kinds = {"text", "location", "fused", "reranked"}
    assert set(result.rows) == kinds | {f"{kind}, {ours.PLACELESS}" for kind in kinds}
    for kind in ("text", "location", "fused"):  # of these, where the query was typed is no part
        assert result.rows[kind].ranks == result.rows[f"{kind}, {ours.PLACELESS}"].ranks
    for kind in ("fused", "reranked"):
        own = result.rows[kind]
        assert [rank > 1 for rank in own.ranks] == [
            fold.pois.iloc[row]["address"] not in {p.text for p in record.positives}
            for row, record in zip(own.found or [], fold.test, strict=True)
        ]
    assert len(result.rows["reranked"].ranks) == len(result.rows["reranked"].rerank or ()) == len(fold.test)
    fused = result.rows["fused"]
    assert len(fused.ranks) == len(fused.rerank or ()) == len(fused.found or ()) == len(fold.test)
    gold = Board(fold.test, fold.pois).gold
    right = [bool(gold[i, row]) for i, row in enumerate(fused.found or ())]
    assert right == [rank == 1 for rank in fused.ranks]
    assert (fused.ms or 0) > 0 < result.minutes
    ours.clean(job.folder)
    assert [path.name for path in job.folder.iterdir()] == ["log.txt"]


def test_a_command_of_ours_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"m3gal finetune ended with 2: .*no such configuration"):
        ours.m3gal("finetune", "--config", "none.yaml", log=tmp_path / "log.txt")
    with pytest.raises(InputError, match="no map extract"):
        ours.pretrained_run("views.yaml", Options("x", tmp_path / "no.osm.pbf", None, tmp_path))
    given = Options("x", None, tmp_path / "given", tmp_path)
    assert ours.pretrained_run("views.yaml", given) == tmp_path / "given"


def test_what_the_commands_of_a_recipe_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(*words: object, log: Path) -> None:
        asked.append([str(w) for w in words])
        log.parent.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(ours, "m3gal", ask)
    extract = tmp_path / "a.osm.pbf"
    extract.touch()
    options = Options("e5", extract, None, tmp_path)
    recipe = ours.Recipe("r", "geotes.yaml", ("optim.lr=1",), views="views.yaml", few=("optim.epochs=6",))
    start = ours.pretrained_run("views.yaml", options)
    assert [words[0] for words in asked] == ["data", "pretrain"]
    assert ours.pretrained_run("views.yaml", options) == start
    assert len(asked) == 2  # made once

    def line(labels: int | None, begun: bool = False) -> str:
        folder = tmp_path / f"job{labels}{begun}"
        if begun:
            (folder / "run" / "last").mkdir(parents=True, exist_ok=True)
        job = Job(Fold("0", [], [], [], [], pd.DataFrame()), 3, labels, folder, options)
        ours.finetune(recipe, job, folder / "run", tmp_path / "data", start)
        return " ".join(asked[-1])

    assert f"--init {start}" in line(None)
    assert "--set optim.lr=1" in line(None)
    assert "optim.epochs" not in line(None) + line(0)
    assert "--set optim.epochs=6" in line(50)
    assert "--max-steps 0" in line(0)
    assert "--max-steps" not in line(50)
    assert "--resume auto" in line(None, begun=True)
    assert "--init" not in line(None, begun=True)


def test_negatives_are_drawn_anew(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    from tests.helpers.sample_town import write_lines

    records: list[Record] = read_records(write_lines(tmp_path / "r.jsonl", [record(i, 5 + i) for i in range(2)]))
    rows = sentence.Drawn(records, 3, seed=1)
    seen = [rows[1].texts for _ in range(20)]
    assert len({tuple(texts) for texts in seen}) > 5
    for texts in seen:
        assert texts[0] == sentence.QUERY + records[1].query
        assert texts[1] == sentence.PASSAGE + records[1].positives[0].text
        assert len(set(texts[2:])) == 3
        assert set(texts[2:]) <= {sentence.PASSAGE + p.text for p in records[1].negatives}
    assert len(sentence.Drawn(records, 9, seed=1)[0].texts) == 2 + 5
    assert sentence.Drawn(records, 3, seed=1)[1].texts == seen[0]


@pytest.mark.slow
def test_the_finetuned_encoder_finds_more_and_keeps_its_word_embeddings(shared: Path, tmp_path: Path) -> None:
    fold = make_fold(Source(shared / "data" / "geotes"), "0", Plan())
    fold = replace(fold, train=fold.train[:64], test=fold.test[:40], pois=fold.pois[:300])
    model = sentence.load(str(shared / "models" / "e5-small-zh"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    sentence.finetune(model, fold.train, seed=1)
    same = {name for name, p in model.named_parameters() if (p == before[name]).all()}
    assert any("word_embeddings" in name for name in same)
    assert not any("attention" in name and name.endswith("weight") for name in same)
