"""Wrong input: exit code 2, one error on stderr (what, where, what to do next), no output and no files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.core.momentum_queue import KeyQueue
from tests.helpers.cli import ENVIRONMENT, Answer, m3gal
from tests.helpers.sample_town import PLACES, place, record, views, write_csv, write_lines, write_town

VIEW_HEADER, POI_HEADER = ["address1", "address2", "lng", "lat"], ["address", "lng", "lat"]
GOOD_QUERY = "cafe north street\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``data``, a trained ``runs/good``, and ``runs/wide`` with another width."""
    folder = tmp_path_factory.mktemp("refusals")
    profile = write_town(folder / "data")
    for name, hidden in (("good", 16), ("wide", 24)):
        sets = ("--set", f"model.scratch.hidden={hidden}", "--max-steps", 1)
        m3gal("pretrain", "--config", profile, "--runs-dir", folder / "runs", "--run-name", name, *sets).run.resolve()
    return folder


@pytest.fixture
def empty_folder(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to an empty folder, so that every file that a refused command leaves is noticed."""
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
    assert answer.err.count("\nerror:") == 0
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err
    assert len(answer.err.rstrip("\n").splitlines()) == 2, "the problem, then what to do next"


# command -> its arguments, with a bad file
COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "pretrain": lambda base, bad: ("pretrain", "-c", base / "data/tiny.yaml", "--set", f"data.views={bad}"),
    "pretrain val": lambda base, bad: ("pretrain", "-c", base / "data/tiny.yaml", "--set", f"data.val={bad}"),
    "finetune": lambda base, bad: ("finetune", "-c", base / "data/tiny.yaml", "-b", 4, "--set", f"data.train={bad}"),
    "eval-rerank": lambda base, bad: (*("eval-rerank", "--checkpoint", base / "runs/good", "--test", bad),),
    "eval-retrieval": lambda base, bad: (*("eval-retrieval", "--checkpoint", base / "runs/good", "--test", bad),),
    "eval-retrieval poi": lambda base, bad: (*("eval-retrieval", "--checkpoint", base / "runs/good", "--pois", bad),),
    "predict": lambda base, bad: ("predict", bad, "--checkpoint", base / "runs/good"),
    "predict poi": lambda base, bad: (
        *("predict", "-", "--checkpoint", base / "runs/good", "--pois", bad, "-o", "answers.jsonl"),
    ),
    "osm": lambda base, bad: ("data", "osm", bad, "--output", "made"),
    "geotes": lambda base, bad: ("data", "geotes", bad, "--output", "made"),
    "inspect": lambda base, bad: ("data", "inspect", bad),
    "checkpoint": lambda base, bad: (
        *("eval-rerank", "--checkpoint", bad, "--test", base / "data/test_dataset_use_gis.jsonl"),
        *("--set", f"model.text_encoder={base}/runs/good/last"),
    ),
    "resume": lambda base, bad: ("pretrain", "-c", base / "data/tiny.yaml", "--resume", bad),
    "init": lambda base, bad: ("finetune", "-c", base / "data/tiny.yaml", "--init", bad),
}
TABLES, RECORDS = ("predict poi", "eval-retrieval poi"), ("pretrain val", "finetune", "eval-rerank", "eval-retrieval")
SUFFIX = dict.fromkeys(RECORDS, ".jsonl") | dict.fromkeys(("checkpoint", "resume", "init"), ".pth.tar")
SUFFIX |= {"osm": ".osm.pbf", "predict": ".jsonl", "geotes": ".jsonl"}


def run(command: str, base: Path, bad: Path) -> Answer:
    return m3gal(*COMMANDS[command](base, bad), stdin=GOOD_QUERY)


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_missing_or_empty_file_is_refused(
    base: Path, empty_folder: Path, tmp_path: Path, command: str, state: str
) -> None:
    bad = tmp_path / f"bad{SUFFIX.get(command, '.csv')}"
    if state == "empty":
        bad.touch()
    assert_refused(run(command, base, bad), str(bad))
    assert files(empty_folder) == {}


@pytest.mark.parametrize("command", ["pretrain", *TABLES])
def test_a_bad_table_is_refused_with_file_line_and_column(
    base: Path, empty_folder: Path, tmp_path: Path, command: str
) -> None:
    header = VIEW_HEADER if command == "pretrain" else POI_HEADER
    rows: list[list[Any]] = views()[:20] if command == "pretrain" else [list(place(i)) for i in range(20)]
    bad = write_csv(tmp_path / "bad.csv", [*header[:-1], "latitude"], rows)
    assert_refused(run(command, base, bad), f"{bad}: ", "has no column lat")
    rows[2][-2] = "north"
    write_csv(bad, header, rows)
    assert_refused(run(command, base, bad), f"{bad}:4: lng: ", "expected degrees, got 'north'")
    assert files(empty_folder) == {}


@pytest.mark.parametrize("command", [*RECORDS, "geotes", "inspect"])
def test_a_bad_record_is_refused_with_file_and_line(
    base: Path, empty_folder: Path, tmp_path: Path, command: str
) -> None:
    bad = write_lines(tmp_path / "train_dataset.jsonl", [record(0), record(1, positive_passages=[])])
    assert_refused(run(command, base, bad), f"{bad}:2", "the record has no positive passage")
    assert files(empty_folder) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--set", "model.pooling=max"), "model.pooling: "),
        (("--device", "gpu"), "--device: expected auto, cpu, cuda"),
        (("--device", "cuda:63"), "--device cuda:63: this machine has no such device"),
    ],
)
def test_wrong_settings_and_devices_are_refused(
    base: Path, empty_folder: Path, given: tuple[str, ...], words: str
) -> None:
    training, checkpoint = ("-c", base / "data/tiny.yaml"), ("--checkpoint", base / "runs/good")
    for command in (("pretrain", *training), ("eval-rerank", *checkpoint), ("predict", "-", *checkpoint)):
        assert_refused(m3gal(*command, *given, stdin=GOOD_QUERY), words)
    assert files(empty_folder) == {}


@pytest.mark.integration
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_the_error_without_a_network_names_demo_and_scratch(base: Path, empty_folder: Path, stage: str) -> None:
    command = [sys.executable, "-m", "m3gal_cli", stage, "--data-dir", str(base / "data"), "--batch-size", "4"]
    ended = subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert_refused(Answer(ended.returncode, ended.stdout, ended.stderr), "--config demo.yaml", "--text-encoder scratch")


@pytest.mark.parametrize(
    "arguments",
    [("pretrain", "--no-such-option"), ("data", "osm"), ("nonsense",), ("pretrain", "--lr", "x")],
)
def test_wrong_usage_shows_the_usage(empty_folder: Path, arguments: tuple[str, ...]) -> None:
    answer = m3gal(*arguments)
    assert (answer.code, answer.out) == (2, "")
    assert "Usage: " in answer.err
    assert "Error" in answer.err
    assert files(empty_folder) == {}


@pytest.mark.parametrize(("stage", "rows"), [("pretrain", 64), ("finetune", 16)])
def test_a_batch_larger_than_the_data_is_refused(base: Path, empty_folder: Path, stage: str, rows: int) -> None:
    answer = m3gal(stage, "-c", base / "data/tiny.yaml", "--batch-size", rows + 1)
    assert_refused(answer, f"--batch-size {rows + 1} is larger than the data ({rows} rows)", f"--batch-size {rows} ")
    assert files(empty_folder) == {}
    assert m3gal(stage, "-c", base / "data/tiny.yaml", "--batch-size", rows, "--max-steps", 1).code == 0


def test_a_published_checkpoint_of_another_width_is_refused(base: Path, empty_folder: Path, tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "c.pth.tar", load_checkpoint(base / "runs/wide/last")
    save_published(path, checkpoint, dict(KeyQueue(40, checkpoint.model.dim).state_dict()), {})
    for command in ("eval-rerank", "predict"):
        answer = m3gal(
            *(command, *(("-",) if command == "predict" else ()), "--checkpoint", path, "-c", base / "data/tiny.yaml"),
            *("--text-encoder", base / "runs/good/last/query_encoder"),
            stdin=GOOD_QUERY,
        )
        assert_refused(answer, str(path), "the checkpoint has another width", ", 24), the encoder's is", ", 16)")
    assert files(empty_folder) == {}


@pytest.mark.parametrize("command", ["resume", "checkpoint"])
def test_a_damaged_checkpoint_is_refused(base: Path, empty_folder: Path, tmp_path: Path, command: str) -> None:
    bad = Path(shutil.copytree(base / "runs/good", tmp_path / "damaged", symlinks=True))
    trainer = bad / "last/trainer.pt"
    os.truncate(trainer, trainer.stat().st_size // 2)
    if command == "resume":
        assert_refused(run(command, base, bad), str(bad))
    else:
        assert run(command, base, bad).code == 0, "an evaluation does not read it"
    shutil.copy(base / "runs/wide/last/query_encoder/model.safetensors", bad / "last/query_encoder")
    assert_refused(run(command, base, bad), str(bad))
    assert files(empty_folder) == {}


WRITERS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "pretrain": lambda base, out: ("pretrain", "-c", base / "data/tiny.yaml", "--runs-dir", out),
    "finetune": lambda base, out: ("finetune", "-c", base / "data/tiny.yaml", "-b", 4, "--runs-dir", out),
    "sample": lambda base, out: ("data", "sample", "-o", out),
    "geotes": lambda base, out: ("data", "geotes", base / "data/train_dataset_use_gis.jsonl", "-o", out),
    "predict": lambda base, out: ("predict", "-", "--checkpoint", base / "runs/good", "-o", out / "answers.jsonl"),
}


@pytest.mark.parametrize("command", list(WRITERS))
@pytest.mark.parametrize("kind", ["below a file", "forbidden"])
def test_an_output_that_cannot_be_written_is_refused(base: Path, empty_folder: Path, command: str, kind: str) -> None:
    blocked = empty_folder / "blocked"
    if kind == "below a file":
        blocked.write_text("a file")
        out = blocked / "out"
    else:
        if os.geteuid() == 0:
            pytest.skip("NOT TESTED: root may write anywhere")
        blocked.mkdir(mode=0o500)
        out = blocked / "out"
    before = files(empty_folder)
    assert_refused(m3gal(*WRITERS[command](base, out), stdin=GOOD_QUERY), str(blocked), "cannot write")
    assert files(empty_folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "-c", "tiny.yaml", "--data-dir", "."), "no view table"),
        (("finetune", "-c", "tiny.yaml", "--data-dir", "."), "no candidate records"),
        (("eval-rerank",), "no run with a checkpoint"),
        (("eval-retrieval", "--runs-dir", "elsewhere"), "elsewhere: no run with a checkpoint"),
        (("predict", "-"), "no run with a checkpoint"),
        (("pretrain", "-c", "tiny.yaml", "--resume", "auto", "--init", "x"), "--resume and --init exclude each other"),
        (("predict",), "no queries"),
        (("predict", "-", "--table", "--output", "x"), "--table and --output exclude each other"),
        (("predict", "-", "--output", "x.xlsx"), "no output format has the suffix '.xlsx'"),
        (("data", "osm", "x.osm.pbf", "--datum", "wgs"), "wgs"),
    ],
)
def test_missing_data_and_conflicting_options_are_refused(
    base: Path, empty_folder: Path, arguments: tuple[str, ...], words: str
) -> None:
    shutil.copy(base / "data" / "tiny.yaml", empty_folder)
    before = files(empty_folder)
    assert_refused(m3gal(*arguments, stdin=GOOD_QUERY), words)
    assert files(empty_folder) == before


def test_records_without_gold_in_the_poi_table_are_refused(base: Path, empty_folder: Path, tmp_path: Path) -> None:
    table = write_csv(tmp_path / "other.csv", POI_HEADER, [[f"elsewhere {i}", 10 + i / 10, 50] for i in range(9)])
    assert_refused(run("eval-retrieval poi", base, table), "no positive passage of the records is in the POI table")


LONG = "cafe mill lane " * 700  # 10,500 characters


def test_long_queries_are_matched_by_their_first_tokens(base: Path, empty_folder: Path) -> None:
    given = ("predict", "-", "--checkpoint", base / "runs/good", "--top-k", PLACES)
    answers = m3gal(*given, stdin=f"{LONG.strip()}\n{LONG[:600].strip()}\n{'x' * 10_000}\n").lines()
    assert [len(a["query"]) for a in answers] == [len(LONG.strip()), 599, 10_000]
    assert answers[0]["matches"] == answers[1]["matches"]
    assert len(answers[2]["matches"]) == PLACES
