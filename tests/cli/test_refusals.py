"""Wrong input: exit code 2, one error on stderr (what, where, what to do next), no output and no files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.compat.checkpoints import save_published
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.core.momentum_queue import KeyQueue
from tests.helpers.cli import ENVIRONMENT, Answer, m3gal
from tests.helpers.sample_town import place, record, views, write_csv, write_lines, write_town

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
COMMANDS = {
    "pretrain": "pretrain -c BASE/data/tiny.yaml --set data.views=BAD",
    "pretrain val": "pretrain -c BASE/data/tiny.yaml --set data.val=BAD",
    "finetune": "finetune -c BASE/data/tiny.yaml -b 4 --set data.train=BAD",
    "eval-rerank": "eval-rerank --checkpoint BASE/runs/good --test BAD",
    "eval-retrieval": "eval-retrieval --checkpoint BASE/runs/good --test BAD",
    "eval-retrieval poi": "eval-retrieval --checkpoint BASE/runs/good --pois BAD",
    "predict": "predict BAD --checkpoint BASE/runs/good",
    "predict poi": "predict - --checkpoint BASE/runs/good --pois BAD -o answers.jsonl",
    "osm": "data osm BAD --output made",
    "geotes": "data geotes BAD --output made",
    "inspect": "data inspect BAD",
    "checkpoint": "eval-rerank -c BASE/data/tiny.yaml --checkpoint BAD --set model.text_encoder=BASE/runs/good/last",
    "resume": "pretrain -c BASE/data/tiny.yaml --resume BAD",
    "init": "finetune -c BASE/data/tiny.yaml --init BAD",
}
# command -> its arguments, with an output that cannot be written
WRITERS = {
    "pretrain": "pretrain -c BASE/data/tiny.yaml --runs-dir BAD",
    "finetune": "finetune -c BASE/data/tiny.yaml -b 4 --runs-dir BAD",
    "sample": "data sample -o BAD",
    "geotes": "data geotes BASE/data/train_dataset_use_gis.jsonl -o BAD",
    "predict": "predict - --checkpoint BASE/runs/good -o BAD/answers.jsonl",
}
TABLES, RECORDS = ("predict poi", "eval-retrieval poi"), ("pretrain val", "finetune", "eval-rerank", "eval-retrieval")
SUFFIX = dict.fromkeys(RECORDS, ".jsonl") | dict.fromkeys(("checkpoint", "resume", "init"), ".pth.tar")
SUFFIX |= {"osm": ".osm.pbf", "predict": ".jsonl", "geotes": ".jsonl"}


def run(arguments: str, base: Path, bad: Path) -> Answer:
    given = [part.replace("BASE", str(base)).replace("BAD", str(bad)) for part in arguments.split()]
    return m3gal(*given, stdin=GOOD_QUERY)


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("state", ["missing", "empty"])
def test_a_missing_or_empty_file_is_refused(
    base: Path, empty_folder: Path, tmp_path: Path, command: str, state: str
) -> None:
    bad = tmp_path / f"bad{SUFFIX.get(command, '.csv')}"
    if state == "empty":
        bad.touch()
    assert_refused(run(COMMANDS[command], base, bad), str(bad))
    assert files(empty_folder) == {}


@pytest.mark.parametrize("command", ["pretrain", *TABLES])
def test_a_bad_table_is_refused_with_its_position(base: Path, empty_folder: Path, tmp_path: Path, command: str) -> None:
    header = VIEW_HEADER if command == "pretrain" else POI_HEADER
    rows: list[list[Any]] = views()[:20] if command == "pretrain" else [list(place(i)) for i in range(20)]
    bad = write_csv(tmp_path / "bad.csv", [*header[:-1], "height"], rows)
    assert_refused(run(COMMANDS[command], base, bad), f"{bad}: ", "has no column lat")
    rows[2][-2] = "north"
    write_csv(bad, header, rows)
    assert_refused(run(COMMANDS[command], base, bad), f"{bad}:4: lng: ", "expected degrees, got 'north'")
    assert files(empty_folder) == {}


@pytest.mark.parametrize("command", [*RECORDS, "geotes", "inspect"])
def test_a_bad_record_is_refused_with_its_line(base: Path, empty_folder: Path, tmp_path: Path, command: str) -> None:
    bad = write_lines(tmp_path / "train_dataset.jsonl", [record(0), record(1, positive_passages=[])])
    assert_refused(run(COMMANDS[command], base, bad), f"{bad}:2", "the record has no positive passage")
    assert files(empty_folder) == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (("--set", "model.pooling=max"), "model.pooling: "),
        (("--device", "gpu"), "--device: expected auto, cpu, cuda"),
        (("--device", "cuda:63"), "--device cuda:63: this machine has no such device"),
    ],
)
def test_invalid_settings_are_refused(base: Path, empty_folder: Path, given: tuple[str, ...], words: str) -> None:
    training, checkpoint = ("-c", base / "data/tiny.yaml"), ("--checkpoint", base / "runs/good")
    for command in (("pretrain", *training), ("eval-rerank", *checkpoint), ("predict", "-", *checkpoint)):
        assert_refused(m3gal(*command, *given, stdin=GOOD_QUERY), words)
    assert files(empty_folder) == {}


@pytest.mark.integration
@pytest.mark.parametrize(("stage", "profile"), [("pretrain", "paper.yaml"), ("finetune", "paper-finetune.yaml")])
def test_the_error_without_a_network_names_demo_and_scratch(
    base: Path, empty_folder: Path, stage: str, profile: str
) -> None:
    command = [sys.executable, "-m", "m3gal_cli", stage, "-c", profile, "--data-dir", str(base / "data")]
    command += ["--batch-size", "4"]
    ended = subprocess.run(command, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert_refused(Answer(ended.returncode, ended.stdout, ended.stderr), "--config demo.yaml", "--text-encoder scratch")


@pytest.mark.parametrize(("stage", "rows"), [("pretrain", 64), ("finetune", 16)])
def test_a_batch_larger_than_the_data_is_refused(base: Path, empty_folder: Path, stage: str, rows: int) -> None:
    answer = m3gal(stage, "-c", base / "data/tiny.yaml", "--batch-size", rows + 1)
    assert_refused(answer, f"--batch-size {rows + 1} is larger than the data ({rows} rows)", f"--batch-size {rows} ")
    assert files(empty_folder) == {}
    assert m3gal(stage, "-c", base / "data/tiny.yaml", "--batch-size", rows, "--max-steps", 1).code == 0


def test_a_published_checkpoint_of_another_width_is_refused(base: Path, empty_folder: Path, tmp_path: Path) -> None:
    path, checkpoint = tmp_path / "c.pth.tar", load_checkpoint(base / "runs/wide/last")
    save_published(path, checkpoint, dict(KeyQueue(40, checkpoint.model.dim).state_dict()), {})
    encoder = base / "runs/good/last/query_encoder"
    answer = m3gal("eval-rerank", "--checkpoint", path, "-c", base / "data/tiny.yaml", "--text-encoder", encoder)
    assert_refused(answer, str(path), "the checkpoint has another width", ", 24), the encoder's is", ", 16)")
    assert files(empty_folder) == {}


@pytest.mark.parametrize("command", list(WRITERS))
@pytest.mark.parametrize("kind", ["below a file", "forbidden"])
def test_an_output_that_cannot_be_written_is_refused(base: Path, empty_folder: Path, command: str, kind: str) -> None:
    blocked = empty_folder / "blocked"
    if kind == "below a file":
        blocked.write_text("a file")
    elif os.geteuid() == 0:
        pytest.skip("NOT TESTED: root may write anywhere")
    else:
        blocked.mkdir(mode=0o500)
    before = files(empty_folder)
    assert_refused(run(WRITERS[command], base, blocked / "out"), str(blocked), "cannot write")
    assert files(empty_folder) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pretrain", "-c", "tiny.yaml", "--data-dir", "."), "no view table"),
        (("finetune", "-c", "tiny.yaml", "--data-dir", "."), "no candidate records"),
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
