"""Labels from a CSV to a finetuned and evaluated model; ``data labels``; BEIR folders for other tools."""

from __future__ import annotations

import json
from pathlib import Path

import ir_measures
import pytest
import yaml

from m3gal_cli.data.records import read_records
from tests.helpers.cli import Answer, done, file_contents, m3gal, steps
from tests.helpers.sample_town import KINDS, PLACES, STREETS, place, town_with_run, write_csv, write_lines

QUERIES = [f"{kind} {street} {n}" for n in ("one", "two") for street in STREETS for kind in KINDS]  # 64


def write_labels(path: Path, first: int = 0, last: int = len(QUERIES)) -> Path:
    """Write labels of the queries ``first`` to ``last``; query i means place i."""
    return write_csv(path, ["query", "poi_id"], [[QUERIES[i], f"p{i % PLACES}"] for i in range(first, last)])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = town_with_run(tmp_path_factory.mktemp("labels"), "pretrained", 2)
    rows = [[f"p{i}", *place(i), f"+358 {i}"] for i in range(PLACES)]
    write_csv(folder / "pois.csv", ["poi_id", "address", "lng", "lat", "phone"], rows)
    write_labels(folder / "labels.csv")
    done(finetune(folder, "finetuned"))
    return folder


def finetune(folder: Path, name: str, *more: object) -> object:
    profile, runs = folder / "data" / "tiny.yaml", folder / "runs"
    given = ("--labels", folder / "labels.csv", "--pois", folder / "pois.csv", "--run-name", name, "--runs-dir", runs)
    return m3gal("finetune", "--config", profile, "--init", runs / "pretrained", "--batch-size", 8, *given, *more)


def finetune_on(folder: Path, out: Path, name: str, *given: object) -> Path:
    """Finetune the pretrained run of ``folder`` on other data; return the run, which is in ``out``."""
    start = ("--config", folder / "data" / "tiny.yaml", "--init", folder / "runs" / "pretrained", "--batch-size", 8)
    done(m3gal("finetune", *start, "--runs-dir", out / "runs", "--run-name", name, *given))
    return out / "runs" / name


def data_labels(*given: object, path: Path | str = "labels.csv") -> Answer:
    return done(m3gal("data", "labels", path, "--pois", "pois.csv", *given))


def evaluate(run: Path | str, *given: object) -> Answer:
    return done(m3gal("eval-retrieval", "--json", "--checkpoint", run, *given))


def queries_of(folder: Path) -> dict[str, list[str]]:
    """Return the query texts of each split of a folder with records."""
    found = {split: folder / f"{split}_dataset_use_gis.jsonl" for split in ("train", "val", "test")}
    return {split: [r.query for r in read_records(path)] for split, path in found.items() if path.exists()}


def test_data_labels_and_finetune_give_the_same_splits(here: Path, tmp_path: Path) -> None:
    summary = data_labels("-o", tmp_path, "--json").json()
    assert (summary["labels"], summary["queries"], summary["positives"], summary["skipped"]) == (64, 64, {"1": 64}, 0)
    assert summary["splits"]["val"] == (64 - summary["splits"]["test"]) // 2
    assert sum(summary["splits"].values()) == 64
    splits = queries_of(tmp_path)
    assert {split: len(texts) for split, texts in splits.items()} == summary["splits"]
    assert splits == queries_of(here / "runs" / "finetuned" / "labels")
    assert sorted(text for texts in splits.values() for text in texts) == sorted(QUERIES)
    table = data_labels("-o", tmp_path).out
    assert "gold POIs per query" in table
    assert "1 (64 queries)" in table
    again = finetune_on(here, tmp_path, "again", "--data-dir", tmp_path)
    assert steps(again)[-1]["fused_loss"] == pytest.approx(steps(here / "runs" / "finetuned")[-1]["fused_loss"])


def test_an_evaluation_of_labels_leaves_out_what_the_run_has_seen(here: Path) -> None:
    splits = queries_of(here / "runs" / "finetuned" / "labels")
    unseen = len(splits["test"])
    answer = evaluate("runs/finetuned", "--labels", "labels.csv")
    assert f"labels.csv: {64 - unseen} of 64 queries are training or validation queries of this run" in answer.err
    own = evaluate("runs/finetuned")
    assert answer.json()["n_queries"] == own.json()["n_queries"] == unseen
    assert answer.json()["metrics"] == own.json()["metrics"]
    other = evaluate("runs/pretrained", "--labels", "labels.csv", "--pois", "pois.csv")
    assert other.json()["n_queries"] == 64
    assert "left out" not in other.err
    rerank = done(m3gal("eval-rerank", "--json", "--checkpoint", "runs/finetuned", "--labels", "labels.csv"))
    assert (rerank.json()["n_queries"], rerank.json()["n_candidates"]) == (unseen, PLACES)
    write_csv(here / "seen.csv", ["query", "poi_id"], [[text.upper(), "p1"] for text in splits["train"]])
    refused = m3gal("eval-retrieval", "--checkpoint", "runs/finetuned", "--labels", "seen.csv")
    assert (refused.code, refused.out) == (2, "")
    assert "all queries are training or validation queries of this run" in refused.err


def test_labels_that_come_later_are_evaluated_but_never_leak(here: Path, tmp_path: Path) -> None:
    rows = [[text, f"p{i % PLACES}"] for i, text in enumerate(QUERIES)] + [[f"new {i}", f"p{i}"] for i in range(9)]
    write_csv(tmp_path / "more.csv", ["query", "poi_id"], rows)
    answer = evaluate("runs/finetuned", "--labels", tmp_path / "more.csv")
    assert answer.json()["n_queries"] == len(queries_of(here / "runs" / "finetuned" / "labels")["test"]) + 9


def test_a_resumed_run_keeps_its_records(here: Path, tmp_path: Path) -> None:
    done(finetune(here, "short", "--max-steps", 2))
    before = file_contents(here / "runs" / "short" / "labels")
    content = (here / "labels.csv").read_bytes()
    try:
        write_labels(here / "labels.csv", 0, 40)
        given = ("--labels", here / "labels.csv", "--pois", here / "pois.csv", "--runs-dir", here / "runs")
        profile = ("--config", here / "data" / "tiny.yaml", "--batch-size", 8)
        done(m3gal("finetune", *given, *profile, "--run-name", "short", "--resume", "auto"))
        assert file_contents(here / "runs" / "short" / "labels") == before
        refused = finetune(here, "short")
        assert refused.code == 2
        assert "the run already exists" in refused.err
        assert file_contents(here / "runs" / "short" / "labels") == before
    finally:
        (here / "labels.csv").write_bytes(content)
    assert steps(here / "runs" / "short")[-1]["fused_loss"] == pytest.approx(
        steps(here / "runs" / "finetuned")[-1]["fused_loss"]
    )


def test_the_run_names_its_records_and_the_pois(here: Path) -> None:
    data = yaml.safe_load((here / "runs" / "finetuned" / "config.yaml").read_text())["data"]
    assert data["train"] == "${run}/labels/train_dataset_use_gis.jsonl"
    assert data["test"] == "${run}/labels/test_dataset_use_gis.jsonl"
    assert data["poi"] == "${run}/../../pois.csv"
    assert data["labels"] is None
    assert not (here / "runs" / "finetuned" / "labels" / "poi_database.csv").exists()


def test_a_table_in_another_datum_becomes_part_of_the_run(here: Path) -> None:
    done(finetune(here, "shifted", "--datum", "gcj02", "--max-steps", 1))
    data = yaml.safe_load((here / "runs" / "shifted" / "config.yaml").read_text())["data"]
    assert (data["datum"], data["poi"]) == ("wgs84", "${run}/labels/poi_database.parquet")
    answer = evaluate("runs/shifted")
    assert answer.json()["n_queries"] == len(queries_of(here / "runs" / "shifted" / "labels")["test"])


def test_a_dry_run_writes_nothing(here: Path) -> None:
    before = sorted(p.name for p in (here / "runs").iterdir())
    answer = done(finetune(here, "dry", "--dry-run", "--json"))
    assert answer.json()["rows"] == len(queries_of(here / "runs" / "finetuned" / "labels")["train"])
    assert sorted(p.name for p in (here / "runs").iterdir()) == before


def test_a_beir_folder_gives_other_tools_the_same_metrics(here: Path, tmp_path: Path) -> None:
    data_labels("--beir", tmp_path / "beir")
    run = tmp_path / "run.trec"
    answer = evaluate("runs/pretrained", "--labels", tmp_path / "beir", "--run-file", run, "--run-depth", PLACES)
    rows = [
        line.split("\t")
        for path in sorted((tmp_path / "beir" / "qrels").iterdir())
        for line in path.read_text().splitlines()[1:]
    ]
    assert len(rows) == 64
    qrels = [ir_measures.Qrel(query, document, int(score)) for query, document, score in rows]
    measures = [ir_measures.R @ 1, ir_measures.R @ 5, ir_measures.RR @ 5]
    found = ir_measures.calc_aggregate(measures, qrels, list(ir_measures.read_trec_run(str(run))))
    fused = answer.json()["metrics"]["fused"]
    assert [found[m] for m in measures] == pytest.approx([fused["recall@1"], fused["recall@5"], fused["mrr@5"]])
    corpus = [json.loads(line) for line in (tmp_path / "beir" / "corpus.jsonl").read_text().splitlines()]
    assert corpus[3]["text"] == place(3)[0]
    assert corpus[3]["metadata"]["phone"] == "+358 3"


def test_finetuning_takes_a_beir_folder_with_its_pois(here: Path, tmp_path: Path) -> None:
    data_labels("--beir", tmp_path / "beir")
    run = finetune_on(here, tmp_path, "b", "--labels", tmp_path / "beir", "--max-steps", 1)
    assert queries_of(run / "labels") == queries_of(here / "runs" / "finetuned" / "labels")
    answer = evaluate(run)
    assert answer.json()["n_pois"] == PLACES


MAKE, POIS = ("data", "labels", "labels.csv"), ("--pois", "pois.csv")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("eval-retrieval", "--labels", "labels.csv", "--test", "x.jsonl"), "--labels and --test exclude each other"),
        (("eval-retrieval", "--labels", "gone.csv", *POIS), "gone.csv: no such file or folder"),
        ((*MAKE, "-o", "new"), "labels.csv: no POI table for the labels\nGive --pois FILE."),
        (("data", "labels", "data", "-o", "new"), "data: the folder contains no labels"),
        (("data", "labels", "unknown.csv", *POIS, "-o", "new"), "unknown.csv:2: pois.csv has no POI with the id '1'"),
        ((*MAKE, *POIS, "-o", "new", "--val", "2"), "--val must be at least 0"),
        ((*MAKE, *POIS, "-o", "data"), "trainings would find this file instead"),
        ((*MAKE, *POIS, "--beir", "data"), "data: this is not an empty folder"),
    ],
)
def test_wrong_use_writes_nothing(here: Path, args: tuple[str, ...], words: str) -> None:
    write_csv(here / "unknown.csv", ["query", "poi_id"], [["cafe", "1"]])
    before = file_contents(here)
    answer = m3gal(*args)
    assert (answer.code, answer.out) == (2, "")
    assert words in answer.err
    assert file_contents(here) == before


def test_bad_rows_of_labels_are_left_out_and_listed(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv(tmp_path / "some.csv", ["query", "poi_id"], [["cafe", "p1"], ["bar", "gone"], ["hotel", "p2"]])
    out = tmp_path / "out"
    answer = data_labels("-o", out, "--skip-bad", "--json", path=path)
    assert f"some.csv: 1 of 3 rows are invalid and left out; see {out / 'some.bad.jsonl'}" in answer.err
    (row,) = [json.loads(line) for line in (out / "some.bad.jsonl").read_text().splitlines()]
    assert (row["where"], row["row"]) == (f"{path}:3", {"query": "bar", "poi_id": "gone"})
    monkeypatch.chdir(tmp_path)
    evaluated = ("--checkpoint", here / "runs" / "pretrained", "--labels", path, "--pois", here / "pois.csv")
    assert m3gal("eval-retrieval", *evaluated).code == 2
    assert done(m3gal("eval-retrieval", "--json", *evaluated, "--skip-bad")).json()["n_queries"] == 2
    assert (tmp_path / "some.bad.jsonl").exists()


def test_records_of_a_query_with_two_places_have_both(here: Path, tmp_path: Path) -> None:
    path = write_csv(
        tmp_path / "two.csv", ["query", "poi_id", "label"], [["cafe", "p1", 1], ["cafe", "p2", 3], ["cafe", "p4", 0]]
    )
    data_labels("-o", tmp_path / "out", "--val", 0, "--test", 0, "--negatives", 5, path=path)
    (record,) = read_records(tmp_path / "out" / "train_dataset_use_gis.jsonl")
    assert [p.docid for p in record.positives] == ["p1", "p2"]
    assert record.negatives[0].docid == "p4"
    assert len(record.negatives) == 5


def test_json_lines_are_labels_too(here: Path, tmp_path: Path) -> None:
    path = write_lines(tmp_path / "some.jsonl", [{"query": "cafe", "poi_id": "p1"}, {"query": "bar", "poi_id": "p2"}])
    assert data_labels("-o", tmp_path / "out", "--json", path=path).json()["queries"] == 2
