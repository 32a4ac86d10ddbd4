"""Wrong input: exit code 2, one message on stderr (what, where, next), nothing on stdout, nothing half-written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.core.momentum_queue import KeyQueue
from m3gal_cli.data.sample import copy_sample
from tests.helpers.cli import Answer, m3gal
from tests.helpers.sample_town import PLACES, place, record, views, write_csv, write_lines, write_town

VIEW_HEADER, POI_HEADER = ["address1", "address2", "lng", "lat"], ["address", "lng", "lat"]
GOOD_QUERY = "cafe north street\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data`` and a trained ``runs/good`` and, of another width, ``runs/wide``."""
    folder = tmp_path_factory.mktemp("refusals")
    profile = write_town(folder / "data")
    for name, hidden in (("good", 16), ("wide", 24)):
        sets = ("--set", f"model.scratch.hidden={hidden}", "--max-steps", 1)
        m3gal(
            "pretrain", "--config", profile, "--runs-dir", folder / "runs", "--output-name", name, *sets
        ).run.resolve()
    return folder


@pytest.fixture
def place_of_work(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run in, so that whatever a refused command leaves behind shows."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


def files(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def assert_refused(answer: Answer, *words: str) -> None:
    assert answer.code == 2, (answer.out, answer.err)
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\nerror:") == 0, "one message"
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err
    assert len(answer.err.rstrip("\n").splitlines()) == 2, "what and where; then what to do next"


# command -> its arguments, with the one bad file in its place
COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "pretrain": lambda base, bad: ("pretrain", "-c", base / "data/tiny.yaml", "--set", f"data.views={bad}"),
    "pretrain val": lambda base, bad: ("pretrain", "-c", base / "data/tiny.yaml", "--set", f"data.val={bad}"),
    "finetune": lambda base, bad: ("finetune", "-c", base / "data/tiny.yaml", "-b", 4, "--set", f"data.train={bad}"),
    "eval-rerank": lambda base, bad: (
        *("eval-rerank", "--checkpoint", base / "runs/good", "--test-dataset-filepath", bad),
    ),
    "eval-retrieval": lambda base, bad: (
        *("eval-retrieval", "--checkpoint", base / "runs/good", "--test-dataset-filepath", bad),
    ),
    "eval-retrieval poi": lambda base, bad: (
        *("eval-retrieval", "--checkpoint", base / "runs/good", "--poi-database-filepath", bad),
    ),
    "predict": lambda base, bad: ("predict", bad, "--checkpoint", base / "runs/good"),
    "predict poi": lambda base, bad: (
        *("predict", "-", "--checkpoint", base / "runs/good", "--poi-database-filepath", bad, "-o", "answers.jsonl"),
    ),
    "osm": lambda base, bad: ("data", "osm", bad, "--output", "made"),
    "geotes": lambda base, bad: ("data", "geotes", bad, "--output", "made"),
    "inspect": lambda base, bad: ("data", "inspect", bad),
    "checkpoint": lambda base, bad: (
        "eval-rerank",
        "--checkpoint",
        bad,
        "--set",
        f"model.text_encoder={base}/runs/good/last",
    ),
    "resume": lambda base, bad: ("pretrain", "-c", base / "data/tiny.yaml", "--resume", bad),
    "init": lambda base, bad: ("finetune", "-c", base / "data/tiny.yaml", "--init", bad),
    "config": lambda base, bad: ("pretrain", "-c", bad),
}
TABLES, RECORDS = ("predict poi", "eval-retrieval poi"), ("pretrain val", "finetune", "eval-rerank", "eval-retrieval")
SUFFIX = dict.fromkeys(RECORDS, ".jsonl") | dict.fromkeys(("checkpoint", "resume", "init"), ".pth.tar")
SUFFIX |= {"osm": ".osm.pbf", "predict": ".jsonl", "geotes": ".jsonl", "config": ".yaml"}


def run(command: str, base: Path, bad: Path) -> Answer:
    return m3gal(*COMMANDS[command](base, bad), stdin=GOOD_QUERY)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c != "config"])
@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_missing_or_an_empty_file(base: Path, place_of_work: Path, tmp_path: Path, command: str, state: str) -> None:
    bad = tmp_path / f"bad{SUFFIX.get(command, '.csv')}"
    if state == "empty":
        bad.touch()
    assert_refused(run(command, base, bad), str(bad))
    assert files(place_of_work) == {}


def test_a_missing_profile_names_those_there_are(base: Path, place_of_work: Path) -> None:
    answer = run("config", base, Path("demmo.yaml"))
    assert_refused(answer, "demmo.yaml", "Did you mean demo.yaml?", "paper.yaml")
    assert files(place_of_work) == {}


def bad_table(path: Path, kind: str, of_views: bool) -> str:
    """A table with one fault in line 4, and where it is said to be."""
    header = VIEW_HEADER if of_views else POI_HEADER
    rows: list[list[Any]] = views()[:20] if of_views else [list(place(i)) for i in range(20)]
    lng, lat = len(header) - 2, len(header) - 1
    if kind == "no column":
        write_csv(path, [*header[:-1], "latitude"], rows)
        return f"{path}: "
    if kind == "swapped":
        for row in rows:
            row[lng], row[lat] = 60.1, 120.2
        write_csv(path, header, rows)
        return f"{path}:2: lat: "
    rows[2][lng] = {"out of range": 240.9, "nan": "nan", "text": "north"}[kind]
    write_csv(path, header, rows)
    return f"{path}:4: lng: "


WORDS = {
    "no column": "has no column lat",
    "swapped": "lng and lat look swapped",
    "out of range": "240.9 is outside [-180, 180]",
    "nan": "expected degrees, got 'nan'",
    "text": "expected degrees, got 'north'",
}


@pytest.mark.parametrize("command", ["pretrain", *TABLES])
@pytest.mark.parametrize("kind", list(WORDS))
def test_a_bad_table(base: Path, place_of_work: Path, tmp_path: Path, command: str, kind: str) -> None:
    bad = tmp_path / "bad.csv"
    where = bad_table(bad, kind, command == "pretrain")
    assert_refused(run(command, base, bad), where, WORDS[kind])
    assert files(place_of_work) == {}


@pytest.mark.parametrize("command", [*RECORDS, "geotes", "inspect"])
@pytest.mark.parametrize("fault", ["broken", "no positive"])
def test_a_bad_record(base: Path, place_of_work: Path, tmp_path: Path, command: str, fault: str) -> None:
    line: Any = '{"query": "cafe", ' if fault == "broken" else record(2, positive_passages=[])
    bad = write_lines(tmp_path / "train_dataset.jsonl", [record(0), record(1), line, record(3)])
    words = "not JSON" if fault == "broken" else "the record has no positive passage"
    assert_refused(run(command, base, bad), f"{bad}:3", words)
    assert files(place_of_work) == {}


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("cafe\n\nhotel\n", ":2: ", "empty query"),
        ("cafe\n   \n", ":2: ", "empty query"),
        ('cafe\n{"query": " "}\n', ":2: query: ", "empty query"),
        ('cafe\n{"id": 3}\n', ":2: query: ", "expected a query, got None"),
        ('{"query": "cafe"\n', ":1: ", "not JSON"),
        ('{"query": "cafe", "lng": 60.1, "lat": 124.9}\n', ":1: lng, lat: ", "lng and lat look swapped"),
        ('{"query": "cafe", "lng": 60.1}\n', ":1: lng, lat: ", 'expected "lng,lat"'),
    ],
)
@pytest.mark.parametrize("from_stdin", [False, True])
def test_a_bad_query(
    base: Path, place_of_work: Path, tmp_path: Path, text: str, where: str, words: str, from_stdin: bool
) -> None:
    path = tmp_path / "queries.txt"
    path.write_text(text)
    name = "-" if from_stdin else path
    answer = m3gal("predict", name, "--checkpoint", base / "runs/good", "-o", "answers.jsonl", stdin=text)
    assert_refused(answer, f"{'<stdin>' if from_stdin else path}{where}", words)
    assert files(place_of_work) == {}


def test_a_truncated_extract(place_of_work: Path, tmp_path: Path, base: Path) -> None:
    bad = copy_sample(tmp_path)
    bad.write_bytes(bad.read_bytes()[: bad.stat().st_size // 2])
    assert_refused(run("osm", base, bad), str(bad), "truncated")
    assert files(place_of_work) == {}


def test_every_wrong_setting_at_once(base: Path, place_of_work: Path) -> None:
    """Each on a line of its own, with where it was set; then what to do next."""
    profile = place_of_work / "wrong.yaml"
    profile.write_text("optim: {lrr: 0.1, epochs: many}\nmomentum: {temperature: -1}\nmodle: {pooling: mean}\n")
    before = files(place_of_work)
    answer = m3gal("pretrain", "-c", profile, "--set", "optim.batch_size=0", "--loss", "both")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.count("error:") == 1
    lines = answer.err.removeprefix("error: ").splitlines()
    assert len(lines) == 7
    for words in (
        ("'optim.lrr'", "Did you mean optim.lr?", "wrong.yaml"),
        ("optim.epochs: ", "'many'", "wrong.yaml"),
        ("momentum.temperature: ", "-1", "wrong.yaml"),
        ("'modle", "Did you mean model", "wrong.yaml"),
        ("optim.batch_size: ", "got 0", "--set optim.batch_size"),
        ("optim.loss: ", "'both'", "command line"),
    ):
        assert sum(all(word in line for word in words) for line in lines) == 1, words
    assert files(place_of_work) == before


@pytest.mark.parametrize("command", ["pretrain", "finetune", "eval-rerank", "eval-retrieval", "predict"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--set", "optim.lr"), "--set 'optim.lr' has no '='"),
        (("--set", "=3"), "has no '='"),
        (("--set", "optim.learning_rate=1"), "unknown key 'optim.learning_rate'"),
        (("--set", "pooling=cls"), "Did you mean model.pooling?"),
        (("--set", "model.pooling=max"), "model.pooling: "),
        (("--set", "eval.batch_tokens=0"), "eval.batch_tokens: "),
        (("--device", "gpu"), "device: "),
    ],
)
def test_wrong_settings(base: Path, place_of_work: Path, command: str, given: tuple[str, ...], words: str) -> None:
    own = (
        ("-c", base / "data/tiny.yaml") if command in ("pretrain", "finetune") else ("--checkpoint", base / "runs/good")
    )
    queries = ("-",) if command == "predict" else ()
    assert_refused(m3gal(command, *queries, *own, *given, stdin=GOOD_QUERY), words)
    assert files(place_of_work) == {}


@pytest.mark.parametrize(
    "arguments",
    [("pretrain", "--no-such-option"), ("predict",), ("data", "osm"), ("nonsense",), ("pretrain", "--lr", "x")],
)
def test_wrong_usage(place_of_work: Path, arguments: tuple[str, ...]) -> None:
    answer = m3gal(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: " in answer.err
    assert "Error" in answer.err
    assert files(place_of_work) == {}


@pytest.mark.parametrize(("stage", "rows"), [("pretrain", 64), ("finetune", 16)])
def test_a_batch_larger_than_the_data(base: Path, place_of_work: Path, stage: str, rows: int) -> None:
    answer = m3gal(stage, "-c", base / "data/tiny.yaml", "--batch-size", rows + 1)
    assert_refused(
        answer, f"optim.batch_size {rows + 1} is larger than the data ({rows} rows)", f"--batch-size {rows} "
    )
    assert files(place_of_work) == {}
    assert m3gal(stage, "-c", base / "data/tiny.yaml", "--batch-size", rows, "--max-steps", 1).code == 0


def published(base: Path, path: Path, run: str = "good") -> Path:
    """A checkpoint file in the published form."""
    checkpoint = load_checkpoint(base / "runs" / run / "last")
    save_published(path, checkpoint, dict(KeyQueue(40, checkpoint.model.dim).state_dict()), {})
    return path


def test_a_published_checkpoint_of_another_width(base: Path, place_of_work: Path, tmp_path: Path) -> None:
    path = published(base, tmp_path / "c.pth.tar", "wide")
    for command in ("eval-rerank", "predict"):
        answer = m3gal(
            *(command, *(("-",) if command == "predict" else ()), "--checkpoint", path, "-c", base / "data/tiny.yaml"),
            *("--text-encoder", base / "runs/good/last/query_encoder"),
            stdin=GOOD_QUERY,
        )
        assert_refused(answer, str(path), "a checkpoint of another width", ", 24), the encoder's is", ", 16)")
    assert files(place_of_work) == {}


def damaged(base: Path, folder: Path, what: str) -> Path:
    copy = Path(shutil.copytree(base / "runs/good", folder / "damaged", symlinks=True))
    last = copy / "last"
    if what == "weights of another width":
        shutil.copy(base / "runs/wide/last/query_encoder/model.safetensors", last / "query_encoder")
    elif what == "weights truncated":
        os.truncate(
            last / "poi_encoder/model.safetensors", (last / "poi_encoder/model.safetensors").stat().st_size - 100
        )
    elif what == "weights gone":
        (last / "poi_encoder/model.safetensors").unlink()
    elif what == "settings no JSON":
        (last / "m3gal.json").write_text('{"format": 2, "settings"')
    elif what == "tokenizer gone":
        shutil.rmtree(last / "query_encoder")
    elif what == "trainer truncated":
        os.truncate(last / "trainer.pt", (last / "trainer.pt").stat().st_size // 2)
    return copy


DAMAGES = ["weights of another width", "weights truncated", "weights gone", "settings no JSON", "tokenizer gone"]


@pytest.mark.parametrize("what", [*DAMAGES, "trainer truncated"])
@pytest.mark.parametrize("command", ["resume", "checkpoint"])
def test_a_damaged_checkpoint(base: Path, place_of_work: Path, tmp_path: Path, what: str, command: str) -> None:
    bad = damaged(base, tmp_path, what)
    if (what, command) == ("trainer truncated", "checkpoint"):
        assert run(command, base, bad).code == 0, "an evaluation does not need it"
        return
    assert_refused(run(command, base, bad), str(bad))
    assert files(place_of_work) == {}


@pytest.mark.parametrize("part", [0.0001, 0.5, 0.999])
def test_a_truncated_published_checkpoint(base: Path, place_of_work: Path, tmp_path: Path, part: float) -> None:
    path = published(base, tmp_path / "c.pth.tar")
    encoder = ("-c", base / "data/tiny.yaml", "--text-encoder", base / "runs/good/last/query_encoder")
    whole = m3gal("eval-rerank", "--checkpoint", path, *encoder)
    assert whole.code == 0, whole.err
    os.truncate(path, int(path.stat().st_size * part))
    assert_refused(m3gal("eval-rerank", "--checkpoint", path, *encoder), str(path))
    assert files(place_of_work) == {}


class Foreign:
    """Writes a file when a careless reader unpickles it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("form", ["raw pickle", "torch", "in the state", "trainer.pt", "dataset"])
def test_foreign_code_is_never_run(base: Path, place_of_work: Path, tmp_path: Path, form: str) -> None:
    marker = tmp_path / "marker"
    bad, command = tmp_path / "c.pth.tar", "checkpoint"
    if form == "raw pickle":
        bad.write_bytes(pickle.dumps(Foreign(marker)))
    elif form == "torch":
        torch.save(Foreign(marker), bad)
    elif form == "in the state":
        torch.save({"epoch": 1, "state_dict": {"encoder_q.x": Foreign(marker)}, "optimizer": {}}, bad)
    elif form == "trainer.pt":
        bad, command = Path(shutil.copytree(base / "runs/good", tmp_path / "run", symlinks=True)), "resume"
        torch.save({"queue": {}, "optimizer": Foreign(marker)}, bad / "last" / "trainer.pt")
    else:
        bad, command = tmp_path / "train_dataset_use_gis.pth", "finetune"
        torch.save([Foreign(marker)], bad)
    assert_refused(run(command, base, bad), str(bad), "foreign code" if form != "dataset" else "mkdir")
    assert not marker.exists()
    assert files(place_of_work) == {}
    source = bad / "last" / "trainer.pt" if form == "trainer.pt" else bad
    if form == "raw pickle":
        pickle.loads(source.read_bytes())
    else:
        torch.load(source, weights_only=False)
    assert marker.exists(), "it does bite a careless reader"


WRITERS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "pretrain": lambda base, out: ("pretrain", "-c", base / "data/tiny.yaml", "--runs-dir", out),
    "finetune": lambda base, out: ("finetune", "-c", base / "data/tiny.yaml", "-b", 4, "--runs-dir", out),
    "sample": lambda base, out: ("data", "sample", "-o", out),
    "geotes": lambda base, out: ("data", "geotes", base / "data/train_dataset_use_gis.jsonl", "-o", out),
    "predict": lambda base, out: ("predict", "-", "--checkpoint", base / "runs/good", "-o", out / "answers.jsonl"),
}


@pytest.mark.parametrize("command", list(WRITERS))
@pytest.mark.parametrize("kind", ["below a file", "forbidden"])
def test_an_output_that_cannot_be_written(base: Path, place_of_work: Path, command: str, kind: str) -> None:
    blocked = place_of_work / "blocked"
    if kind == "below a file":
        blocked.write_text("a file")
        out = blocked / "out"
    else:
        if os.geteuid() == 0:
            pytest.skip("NOT TESTED: root may write anywhere")
        blocked.mkdir(mode=0o500)
        out = blocked / "out"
    before = files(place_of_work)
    assert_refused(m3gal(*WRITERS[command](base, out), stdin=GOOD_QUERY), str(blocked), "cannot write")
    assert files(place_of_work) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "-c", "tiny.yaml", "--data-dir", "."), "no view table"),
        (("finetune", "-c", "tiny.yaml", "--data-dir", "."), "no candidate records"),
        (("eval-rerank",), "no run with a checkpoint"),
        (("eval-retrieval", "--runs-dir", "elsewhere"), "elsewhere: no run with a checkpoint"),
        (("predict", "-"), "no run with a checkpoint"),
        (("pretrain", "-c", "tiny.yaml", "--resume", "auto", "--init", "x"), "--resume and --init exclude each other"),
        (("predict", "-", "--table", "--output", "x"), "--table and --output exclude each other"),
        (("data", "osm", "x.osm.pbf", "--datum", "wgs"), "wgs"),
        (("data", "inspect", "x.csv", "--datum", "wgs"), "wgs"),
    ],
)
def test_nothing_to_work_on(base: Path, place_of_work: Path, arguments: tuple[str, ...], words: str) -> None:
    shutil.copy(base / "data" / "tiny.yaml", place_of_work)
    before = files(place_of_work)
    assert_refused(m3gal(*arguments, stdin=GOOD_QUERY), words)
    assert files(place_of_work) == before


def test_two_view_tables_must_be_told_apart(base: Path, place_of_work: Path) -> None:
    for name in ("a", "b"):
        shutil.copy(base / "data" / "same_poi_views_town.csv", place_of_work / f"same_poi_views_{name}.csv")
    given = ("pretrain", "-c", base / "data/tiny.yaml", "--data-dir", place_of_work, "--max-steps", 0)
    assert_refused(m3gal(*given), "more than one view table: a, b", "--data-suffix")
    assert m3gal(*given, "--data-suffix", "b").code == 0


def test_records_and_poi_table_of_two_worlds(base: Path, place_of_work: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "other.csv", POI_HEADER, [[f"elsewhere {i}", 10 + i / 10, 50] for i in range(9)])
    assert_refused(run("eval-retrieval poi", base, table), "no positive passage of the records is in the POI table")


LONG = "cafe mill lane " * 700  # 10,500 characters


def test_long_texts_are_cut_in_training_and_evaluation(base: Path, place_of_work: Path, tmp_path: Path) -> None:
    """A text of 10,000 characters trains and scores exactly as its beginning does: 24 tokens are the limit."""
    losses, metrics = [], []
    for name, long in (("long", LONG), ("cut", LONG[:600])):
        table, lines = tmp_path / f"same_poi_views_{name}.csv", tmp_path / f"{name}.jsonl"
        rows = views()
        rows[0][0] = rows[3][1] = long
        write_csv(table, VIEW_HEADER, rows)
        own = {"text": long, "gis": ["24.95,60.12"]}
        write_lines(lines, [record(i, query=long if i else "cafe", positive_passages=[own]) for i in range(4)])
        sets = ("--set", f"data.views={table}", "--set", f"data.train={lines}", "--set", f"data.val={lines}")
        tiny = ("-c", base / "data/tiny.yaml", "--runs-dir", tmp_path / "runs", *sets, "--init", base / "runs/good")
        trained = m3gal("pretrain", *tiny, "--output-name", f"p-{name}", "--epochs", 1).run
        tuned = m3gal("finetune", *tiny, "--output-name", f"f-{name}", "--batch-size", 4, "--epochs", 1).run
        rows_ = [json.loads(line) for run in (trained, tuned) for line in (run / "metrics.jsonl").open()]
        losses.append([row["fused_loss"] for row in rows_ if row["kind"] == "step"])
        found = m3gal("eval-rerank", "--checkpoint", base / "runs/good", "--test-dataset-filepath", lines, "--json")
        metrics.append({k: v for k, v in found.json()["metrics"].items() if k != "bm25"})
    assert len(losses[0]) == 5
    assert losses[0] == losses[1]
    assert metrics[0] == metrics[1]


def test_long_queries_are_cut_in_predict(base: Path, place_of_work: Path) -> None:
    given = ("predict", "-", "--checkpoint", base / "runs/good", "--top-k", PLACES)
    answers = m3gal(*given, stdin=f"{LONG.strip()}\n{LONG[:600].strip()}\n{'x' * 10_000}\n").lines()
    assert [len(a["query"]) for a in answers] == [len(LONG.strip()), 599, 10_000]
    assert answers[0]["matches"] == answers[1]["matches"]
    assert len(answers[2]["matches"]) == PLACES


def test_a_profile_that_is_no_yaml(base: Path, place_of_work: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    for text, words in (("optim: {lr: 1\n", "not YAML"), ("- a\n", "expected sections with keys, got list")):
        bad.write_text(text)
        assert_refused(m3gal("pretrain", "-c", bad), str(bad), words)
    bad.write_text(yaml.safe_dump({"extends": "nowhere.yaml"}))
    assert_refused(m3gal("pretrain", "-c", bad), "nowhere.yaml")
    assert files(place_of_work) == {}
