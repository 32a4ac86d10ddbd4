"""Output of the commands: data on stdout, messages on stderr; evaluations and ``predict`` against their oracles."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.data.records import read_records
from m3gal_cli.encoders.torch_encoder import TorchEncoder
from m3gal_cli.evaluation.rerank import evaluate_rerank
from tests.helpers import bruteforce
from tests.helpers.cli import done, m3gal
from tests.helpers.sample_town import PLACES, SPLITS, place, write_lines, write_town

Queries = tuple[Path, list[dict[str, Any]]]
MATCH = {"rank", "poi_id", "address", "lng", "lat", "score"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``data``, ``runs/first`` and the newer ``runs/second``."""
    folder = tmp_path_factory.mktemp("commands")
    profile = write_town(folder / "data")
    for name, seed in (("first", 1), ("second", 2)):
        runs = ("--runs-dir", folder / "runs", "--run-name", name, "--seed", seed, "--max-steps", 4)
        m3gal("pretrain", "--config", profile, *runs).run.resolve()
    os.utime(folder / "runs/first/last/m3gal.json", (1, 1))
    return folder


@pytest.mark.parametrize("command", ["eval-rerank", "eval-retrieval"])
def test_evaluations_use_the_newest_run_and_its_data_by_default(here: Path, command: str, tmp_path: Path) -> None:
    found = done(m3gal(command, "--json"))
    assert "checkpoint: runs/second/best (the newest run's best)" in found.err
    value = found.json()
    assert value["checkpoint"] == "runs/second/best"
    assert value["n_queries"] == SPLITS["test"]
    assert value.get("n_pois", PLACES) == PLACES
    os.chdir(tmp_path)
    explicit = done(m3gal(command, "--json", "--checkpoint", here / "runs" / "second")).json()
    other = done(m3gal(command, "--json", "--checkpoint", here / "runs" / "first")).json()
    assert explicit["metrics"] == value["metrics"]
    assert other["metrics"]["fused"] != value["metrics"]["fused"], "another run gives other metrics"


def test_eval_rerank_prints_the_metrics_of_evaluate_rerank(here: Path) -> None:
    encoder = TorchEncoder(load_checkpoint(here / "runs/second/best"))
    wanted = evaluate_rerank(
        read_records(here / "data/test_dataset_use_gis.jsonl"), encoder, seed=2, sparse=True
    ).metrics
    value = done(m3gal("eval-rerank", "--json", "--sparse")).json()
    assert set(value) >= {"checkpoint", "n_queries", "n_candidates", "seconds", "intervals", "slices", "notes"}
    assert value["metrics"] == wanted
    table = done(m3gal("eval-rerank", "--sparse")).out
    for kind, row in wanted.items():
        line = next(line for line in table.splitlines() if line.startswith(f"│ {kind} "))
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[1:5] == [f"{row[m]:.3f}" for m in ("recall@1", "recall@3", "recall@5", "mrr@5")]


def test_data_dir_replaces_all_files_of_the_run(here: Path, tmp_path: Path) -> None:
    lines = next((here / "data").glob("test_dataset*.jsonl")).read_text(encoding="utf-8").splitlines()
    (tmp_path / "test_dataset.jsonl").write_text("\n".join(lines[:3]) + "\n", encoding="utf-8")
    value = done(m3gal("eval-rerank", "--json", "--data-dir", tmp_path)).json()
    assert value["n_queries"] == 3
    missing = m3gal("eval-retrieval", "--json", "--data-dir", tmp_path)
    assert missing.code == 2
    assert "no POI table" in missing.err


@pytest.mark.parametrize("command", ["eval-rerank", "eval-retrieval"])
def test_fail_under_exits_with_1_below_the_value_and_names_the_metric(here: Path, command: str) -> None:
    value = done(m3gal(command, "--json")).json()["metrics"]["text"]["mrr@5"]
    assert 0 < value < 1
    assert done(m3gal(command, "--fail-under", f"text.mrr@5={value!r}")).err.count("error:") == 0
    checks = ("--fail-under", "recall@1=0", "--fail-under", f"text.mrr@5={math.nextafter(value, 2)!r}")
    for answer in (m3gal(command, *checks), m3gal(command, *checks, "--json")):
        assert answer.code == 1
        assert answer.err.count("error:") == 1
        assert "text mrr@5 is " in answer.err
    assert answer.json()["n_queries"] == SPLITS["test"]


@pytest.mark.parametrize("check", ["recal@1=0.5", "recall@1", "recall@1=high", "=0.5", "bm25=1"])
def test_an_invalid_check_is_refused_with_valid_ones(here: Path, check: str) -> None:
    answer = m3gal("eval-rerank", "--fail-under", check)
    assert (answer.code, answer.out) == (2, "")
    assert "error: --fail-under" in answer.err
    assert "recall@1" in answer.err, "the hint names valid metrics"


@pytest.fixture
def queries(tmp_path: Path) -> Queries:
    """Return a file of text lines and JSON lines, mixed, and the queries in it."""
    _, lng, lat = place(9)
    rows: list[dict[str, Any]] = [
        {"id": 1, "query": "cafe north street"},
        {"id": "b", "query": "hotel", "lng": lng, "lat": lat},
        {"id": 3, "query": "castle hill museum"},
        {"id": 4, "query": "library mill lane"},
        {"id": 0, "query": "cafe north street"},
    ]
    lines = [rows[0]["query"], rows[1], rows[2]["query"], {"query": rows[3]["query"]}, rows[4]]
    return write_lines(tmp_path / "queries.txt", lines), rows


@pytest.mark.parametrize("top_k", [None, 1_000_000_000])
def test_predict_against_brute_force(here: Path, queries: Queries, top_k: int | None) -> None:
    path, rows = queries
    options = ("--set", "eval.precision=fp32", *(() if top_k is None else ("--top-k", top_k)))
    answers = done(m3gal("predict", path, *options)).lines()
    assert [(a["id"], a["query"]) for a in answers] == [(r["id"], r["query"]) for r in rows]
    encoder = TorchEncoder(load_checkpoint(here / "runs/second/best"))
    places = [place(i) for i in range(PLACES)]
    addresses, lng, lat = (list(column) for column in zip(*places, strict=True))
    pois = encoder.encode_poi_texts(addresses) + encoder.encode_locations(lng, lat)
    scores = encoder.encode_queries([r["query"] for r in rows]) @ pois.T
    for answer, own, row in zip(answers, scores, rows, strict=True):
        assert set(answer) == {"id", "query", "matches"}
        matches = answer["matches"]
        assert [m["rank"] for m in matches] == list(range(1, min(top_k or 5, PLACES) + 1))
        assert [m["score"] for m in matches] == pytest.approx(sorted(own, reverse=True)[: len(matches)], abs=1e-5)
        for match in matches:
            assert (match["address"], match["lng"], match["lat"]) == places[match["poi_id"]]
            assert match["score"] == pytest.approx(own[match["poi_id"]], abs=1e-5)
            assert set(match) == (MATCH | {"distance_m"} if "lng" in row else MATCH)
            if "lng" in row:
                metres = bruteforce.metres(row["lng"], row["lat"], match["lng"], match["lat"])
                assert match["distance_m"] == pytest.approx(metres, abs=0.06 + metres * 1e-6)
    assert [m["address"] for m in answers[0]["matches"]][:1] == [m["address"] for m in answers[-1]["matches"]][:1]


def test_predict_reads_stdin_and_writes_a_file(here: Path, queries: Queries, tmp_path: Path) -> None:
    path, _ = queries
    from_file = done(m3gal("predict", path))
    assert done(m3gal("predict", "-", stdin=path.read_text())).out == from_file.out
    target = tmp_path / "out" / "answers.jsonl"
    answer = done(m3gal("predict", path, "--output", target))
    assert answer.out == ""
    assert target.read_text(encoding="utf-8") == from_file.out
    assert os.listdir(target.parent) == ["answers.jsonl"]
    assert m3gal("predict", "-", "-o", target, stdin='cafe\n{"query"').code == 2
    assert target.read_text(encoding="utf-8") == from_file.out, "a refused command keeps the old file"
    assert os.listdir(target.parent) == ["answers.jsonl"]


def test_predict_prints_a_table(here: Path, queries: Queries) -> None:
    path, rows = queries
    answers = done(m3gal("predict", path, "--top-k", 2)).lines()
    table = done(m3gal("predict", path, "--top-k", 2, "--table")).out
    lines = [[c.strip() for c in line.strip("│").split("│")] for line in table.splitlines() if line.startswith("│")]
    assert len(lines) == 2 * len(rows)
    for i, answer in enumerate(answers):
        for j, match in enumerate(answer["matches"]):
            cells = lines[2 * i + j]
            assert cells[:3] == [answer["query"] if j == 0 else "", str(j + 1), match["address"]]
            assert cells[3:6] == [f"{match['lng']:.5f}", f"{match['lat']:.5f}", f"{match['score']:.3f}"]
            assert cells[6] == (f"{match['distance_m']:,.0f} m" if "distance_m" in match else "")


def test_queries_are_printed_unchanged(here: Path) -> None:
    answer = done(m3gal("predict", "-", stdin='莫干山路 [bold]43[/]\n{"query": "Käpylä", "id": {"a": 1}}\n'))
    assert "莫干山路 [bold]43[/]" in answer.out
    assert [a["id"] for a in answer.lines()] == [1, {"a": 1}]
    assert "莫干山路 [bold]43[/]" in done(m3gal("predict", "-", "--table", stdin="莫干山路 [bold]43[/]\n")).out


def test_a_training_prints_the_path_of_its_run_on_stdout(here: Path, tmp_path: Path) -> None:
    for stage in ("pretrain", "finetune"):
        runs = ("--runs-dir", tmp_path / "runs", "--run-name", stage, "--batch-size", 4, "--max-steps", 2)
        answer = done(m3gal(stage, "-c", here / "data/tiny.yaml", *runs))
        assert answer.out == f"{tmp_path}/runs/{stage}\n"
        assert "step 2/2 epoch 0 loss: " in answer.err
        assert f"saved {tmp_path}/runs/{stage}/checkpoints/step-00000002" in answer.err


def test_data_commands_print_data_on_stdout(here: Path, tmp_path: Path) -> None:
    sample = done(m3gal("data", "sample", "-o", tmp_path / "s"))
    assert sample.out == f"{tmp_path}/s/helsinki.osm.pbf\n"
    assert "OpenStreetMap contributors" in sample.err
    source = here / "data" / "train_dataset_use_gis.jsonl"
    geotes = done(m3gal("data", "geotes", source, "-o", tmp_path / "g", "--json"))
    assert str(tmp_path / "g" / source.name) in json.dumps(geotes.json())
    assert read_records(tmp_path / "g" / source.name) == read_records(source)


@pytest.mark.parametrize("where", [0, 2])
def test_debug_anywhere_shows_the_traceback(here: Path, where: int) -> None:
    given = ["data", "inspect", "missing.csv"]
    plain = m3gal(*given)
    given.insert(where, "--debug")
    shown = m3gal(*given)
    assert (plain.code, shown.code) == (2, 2)
    assert (plain.out, shown.out) == ("", "")
    assert "Traceback" not in plain.err
    assert "Traceback (most recent call last)" in shown.err
    assert shown.err.endswith(plain.err)
