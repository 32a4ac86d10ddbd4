"""What commands print and where: data on stdout, talk on stderr; options, settings and their precedence."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
import yaml

from m3gal_cli import __version__
from m3gal_cli.cli.app import app
from m3gal_cli.compat.option_names import normalise
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.data.records import read_records
from m3gal_cli.encoders.encoder import TorchEncoder
from m3gal_cli.evaluation.rerank import evaluate_rerank
from tests.helpers.cli import ENVIRONMENT, done, m3gal, weights
from tests.helpers.sample_town import KINDS, PLACES, SPLITS, STREETS, place, record, write_lines, write_town

MATCH = {"rank", "poi_id", "address", "lng", "lat", "score"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``data`` and two runs of it, the later one ``runs/second``."""
    folder = tmp_path_factory.mktemp("commands")
    profile = write_town(folder / "data")
    for name, seed in (("first", 1), ("second", 2)):
        runs = ("--runs-dir", folder / "runs", "--output-name", name, "--seed", seed, "--max-steps", 4)
        m3gal("pretrain", "--config", profile, *runs).run.resolve()
    os.utime(folder / "runs/first/last/m3gal.json", (1, 1))
    return folder


def program(*args: object, stdin: str | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """``m3gal ARGS`` as a program of its own."""
    command = [sys.executable, "-m", "m3gal_cli", *map(str, args)]
    return subprocess.run(command, env=ENVIRONMENT, input=stdin, text=True, check=False, timeout=120, **options)


# --- evaluations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["eval-rerank", "eval-retrieval"])
def test_evaluations_without_options_take_the_newest_run_and_its_data(here: Path, command: str, tmp_path: Path) -> None:
    """Also from a folder where no ``data`` lies: the run knows its own."""
    found = done(m3gal(command, "--json"))
    assert "checkpoint: runs/second/best (the newest run's best)" in found.err
    value = found.json()
    assert value["checkpoint"] == "runs/second/best"
    assert value["n_queries"] == SPLITS["test"]
    os.chdir(tmp_path)
    explicit = done(m3gal(command, "--json", "--checkpoint", here / "runs" / "second")).json()
    other = done(m3gal(command, "--json", "--checkpoint", here / "runs" / "first")).json()
    assert explicit["metrics"] == value["metrics"]
    assert other["metrics"]["fused"] != value["metrics"]["fused"], "another run, other numbers"


@pytest.mark.parametrize("command", ["eval-rerank", "eval-retrieval"])
def test_the_json_object(here: Path, command: str) -> None:
    value = done(m3gal(command, "--json", "--no-bm25")).json()
    of = "n_candidates" if command == "eval-rerank" else "n_pois"
    assert set(value) == {"checkpoint", "n_queries", of, "seconds", "metrics", "intervals", "slices", "notes"}
    assert value[of] == (6 if command == "eval-rerank" else PLACES)
    assert set(value["metrics"]) == {"text", "location", "fused"}
    assert value["seconds"] >= 0
    for row in value["metrics"].values():
        assert {"recall@1", "recall@3", "recall@5", "mrr@1", "mrr@3", "mrr@5", "ndcg@5"} <= set(row)
        assert {"median_error_m", "within_100m", "within_1km"} <= set(row)
        assert 0 <= row["recall@1"] <= row["mrr@3"] <= row["recall@3"] <= row["recall@5"] <= 1
    with_bm25 = done(m3gal(command, "--json", "--bm25")).json()
    assert set(with_bm25["metrics"]) == {"text", "location", "fused", "bm25"}


def test_eval_rerank_prints_what_the_evaluation_finds(here: Path) -> None:
    encoder = TorchEncoder(load_checkpoint(here / "runs/second/best"))
    wanted = evaluate_rerank(read_records(here / "data/test_dataset_use_gis.jsonl"), encoder, seed=2).metrics
    found = done(m3gal("eval-rerank", "--json")).json()["metrics"]
    assert {kind: found[kind] for kind in wanted} == wanted
    table = done(m3gal("eval-rerank")).out
    for kind, row in wanted.items():
        line = next(line for line in table.splitlines() if line.startswith(f"│ {kind} "))
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[1:5] == [f"{row[m]:.3f}" for m in ("recall@1", "recall@3", "recall@5", "mrr@5")]


def test_another_folder_means_its_files_and_not_the_runs(here: Path, tmp_path: Path) -> None:
    lines = next((here / "data").glob("test_dataset*.jsonl")).read_text(encoding="utf-8").splitlines()
    (tmp_path / "test_dataset.jsonl").write_text("\n".join(lines[:3]) + "\n", encoding="utf-8")
    value = done(m3gal("eval-rerank", "--json", "--data-dir", tmp_path)).json()
    assert value["n_queries"] == 3
    missing = m3gal("eval-retrieval", "--json", "--data-dir", tmp_path)
    assert missing.code == 2
    assert "no POI table" in missing.err


def test_other_data_than_the_runs(here: Path, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "few.jsonl", [record(i) for i in range(3)])
    assert done(m3gal("eval-rerank", "--json", "--test-dataset-filepath", lines)).json()["n_queries"] == 3
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    write_lines(folder / "test_dataset_use_gis_5.jsonl", [record(i) for i in range(5)])
    given = ("--test-data-suffix", 5, "--set", f"data.dir={folder}", "--set", "data.test=null")
    assert done(m3gal("eval-rerank", "--json", *given)).json()["n_queries"] == 5


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("checks", "code"),
    [
        (["recall@1=0"], 0),
        (["recall@5=1.01"], 1),
        (["text.mrr@5=0", "location.recall@1=0"], 0),
        (["recall@1=0", "text.mrr@5=1.01"], 1),
    ],
)
@pytest.mark.parametrize("command", ["eval-rerank", "eval-retrieval"])
def test_fail_under(here: Path, command: str, checks: list[str], code: int, as_json: bool) -> None:
    """The data are on stdout either way; stderr tells which check failed, and by how much."""
    given = [part for check in checks for part in ("--fail-under", check)]
    answer = m3gal(command, *given, *(["--json"] if as_json else []))
    assert answer.code == code
    if as_json:
        assert answer.json()["n_queries"] == SPLITS["test"]
    else:
        assert "│ fused " in answer.out
    assert ("error:" in answer.err) == (code == 1)
    if code:
        assert ", under 1.01\n" in answer.err
        kind, _, metric = checks[-1].partition("=")[0].rpartition(".")
        assert f"{kind or 'fused'} {metric} is " in answer.err


def test_a_value_just_reached_is_no_failure(here: Path) -> None:
    value = done(m3gal("eval-rerank", "--json")).json()["metrics"]["text"]["mrr@5"]
    assert 0 < value < 1
    assert m3gal("eval-rerank", "--fail-under", f"text.mrr@5={value!r}").code == 0
    assert m3gal("eval-rerank", "--fail-under", f"text.mrr@5={math.nextafter(value, 2)!r}").code == 1


@pytest.mark.parametrize(
    "check", ["recal@1=0.5", "lexical.recall@1=0.5", "recall@1", "recall@1=high", "=0.5", "bm25=1"]
)
def test_a_check_that_is_none(here: Path, check: str) -> None:
    answer = m3gal("eval-rerank", "--fail-under", check)
    assert (answer.code, answer.out) == (2, "")
    assert "error: --fail-under" in answer.err
    assert "recall@1" in answer.err, "and what would be one"


# --- predict -------------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Plain lines and JSON lines, mixed; and what each of them says."""
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


def haversine(lng1: float, lat1: float, lng2: float, lat2: float) -> float:
    p1, p2 = math.radians(lat1), math.radians(lat2)
    a = math.sin((p2 - p1) / 2) ** 2 + math.cos(p1) * math.cos(p2) * math.sin(math.radians(lng2 - lng1) / 2) ** 2
    return 2 * 6_371_008.8 * math.asin(math.sqrt(a))


@pytest.mark.parametrize("top_k", [None, 1, 7, PLACES + 10])
def test_predict_against_brute_force(here: Path, asked: tuple[Path, list[dict[str, Any]]], top_k: int | None) -> None:
    path, rows = asked
    asked_for = (
        "--set",
        "eval.precision=fp32",
        *(() if top_k is None else ("--top-k", top_k)),
    )  # as the embedder below
    answers = done(m3gal("predict", path, *asked_for)).lines()
    assert [(a["id"], a["query"]) for a in answers] == [(r["id"], r["query"]) for r in rows], (
        "in the order of the input"
    )
    encoder = TorchEncoder(load_checkpoint(here / "runs/second/best"))
    places = [place(i) for i in range(PLACES)]
    pois = encoder.poi_texts([p[0] for p in places]) + encoder.locations([p[1] for p in places], [p[2] for p in places])
    scores = encoder.queries([r["query"] for r in rows]) @ pois.T
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
                metres = haversine(row["lng"], row["lat"], match["lng"], match["lat"])
                assert match["distance_m"] == pytest.approx(metres, abs=0.06 + metres * 1e-6)
    assert [m["address"] for m in answers[0]["matches"]][:1] == [m["address"] for m in answers[-1]["matches"]][:1]


def test_predict_from_stdin_and_into_a_file(
    here: Path, asked: tuple[Path, list[dict[str, Any]]], tmp_path: Path
) -> None:
    path, _ = asked
    from_file = done(m3gal("predict", path))
    assert done(m3gal("predict", "-", stdin=path.read_text())).out == from_file.out
    target = tmp_path / "out" / "answers.jsonl"
    answer = done(m3gal("predict", path, "--output", target))
    assert answer.out == ""
    assert target.read_text(encoding="utf-8") == from_file.out
    assert os.listdir(target.parent) == ["answers.jsonl"]
    assert m3gal("predict", "-", "-o", target, stdin="cafe\n\n").code == 2
    assert target.read_text(encoding="utf-8") == from_file.out, "a refused command leaves the old file"
    assert os.listdir(target.parent) == ["answers.jsonl"]


def test_predict_as_a_table(here: Path, asked: tuple[Path, list[dict[str, Any]]]) -> None:
    path, rows = asked
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


def test_queries_in_another_script_come_back_as_typed(here: Path) -> None:
    answer = done(m3gal("predict", "-", stdin='莫干山路 [bold]43[/]\n{"query": "Käpylä", "id": {"a": 1}}\n'))
    assert "莫干山路 [bold]43[/]" in answer.out
    assert [a["id"] for a in answer.lines()] == [1, {"a": 1}]
    assert "莫干山路 [bold]43[/]" in done(m3gal("predict", "-", "--table", stdin="莫干山路 [bold]43[/]\n")).out


# --- stdout, pipes, traces -----------------------------------------------------------------------------------------


def test_training_prints_its_run_and_nothing_else(here: Path, tmp_path: Path) -> None:
    for stage in ("pretrain", "finetune"):
        runs = ("--runs-dir", tmp_path / "runs", "--output-name", stage, "--batch-size", 4, "--max-steps", 2)
        answer = done(m3gal(stage, "-c", here / "data/tiny.yaml", *runs))
        assert answer.out == f"{tmp_path}/runs/{stage}\n"
        assert "step 2/2 epoch 0 loss: " in answer.err
        assert f"saved {tmp_path}/runs/{stage}/checkpoints/step-00000002" in answer.err


def test_data_commands_print_data_alone(here: Path, tmp_path: Path) -> None:
    sample = done(m3gal("data", "sample", "-o", tmp_path / "s"))
    assert sample.out == f"{tmp_path}/s/helsinki.osm.pbf\n"
    assert "OpenStreetMap contributors" in sample.err
    source = here / "data" / "train_dataset_use_gis.jsonl"
    geotes = done(m3gal("data", "geotes", source, "-o", tmp_path / "g", "--json"))
    assert str(tmp_path / "g" / source.name) in json.dumps(geotes.json())
    assert read_records(tmp_path / "g" / source.name) == read_records(source)
    for file, kind in (("same_poi_views_town.csv", "view"), ("poi_database_town.csv", "POI"), (source.name, "record")):
        inspected = done(m3gal("data", "inspect", here / "data" / file, "--json"))
        assert kind in inspected.json()["kind"]
        assert file in done(m3gal("data", "inspect", here / "data" / file)).out
    osm = tmp_path / "t.osm"
    nodes = "".join(
        f'<node id="{i + 1}" version="1" lon="{place(i)[1]}" lat="{place(i)[2]}"><tag k="name" v="{KINDS[i % 8]} {i}"/>'
        f'<tag k="amenity" v="cafe"/><tag k="addr:street" v="{STREETS[i // 8]}"/></node>'
        for i in range(PLACES)
    )
    osm.write_text(f'<?xml version="1.0"?><osm version="0.6">{nodes}</osm>')
    made = done(m3gal("data", "osm", osm, "-o", tmp_path / "o", "--json", "--suffix", "t")).json()
    assert made["places"] == PLACES
    assert (tmp_path / "o" / "same_poi_views_t.csv").is_file()


def test_as_a_program_stdout_is_json_and_a_closed_pipe_no_error(here: Path) -> None:
    """Nothing that libraries print by themselves gets between; whoever stops reading ends the command well."""
    value = program("eval-rerank", "--json", cwd=here, capture_output=True)
    assert value.returncode == 0, value.stderr
    assert json.loads(value.stdout)["n_queries"] == SPLITS["test"]
    reader, writer = os.pipe()
    os.close(reader)  # every write fails, whatever the size of the pipe
    ended = program("predict", "-", "--table", stdin="cafe\n", cwd=here, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert ended.returncode == 0, ended.stderr
    assert not any(word in ended.stderr for word in ("Traceback", "BrokenPipe", "error:"))


def test_one_line_of_many(here: Path) -> None:
    """``m3gal predict - | head -1`` with more than a pipe holds."""
    shell = f"{sys.executable} -m m3gal_cli predict - --top-k 20 | head -1; echo ${{PIPESTATUS[0]}}"
    lines = "".join(f"cafe {i}\n" for i in range(400))
    ended = subprocess.run(
        ["bash", "-c", shell], env=ENVIRONMENT, cwd=here, input=lines, text=True, capture_output=True, check=True
    )
    first, code = ended.stdout.splitlines()
    assert json.loads(first)["query"] == "cafe 0"
    assert code == "0"
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("where", [0, 1, 2])
def test_debug_shows_the_traceback_and_keeps_the_code(here: Path, where: int) -> None:
    given = ["data", "inspect", "missing.csv"]
    plain = m3gal(*given)
    given.insert(where, "--debug")
    shown = m3gal(*given)
    assert (plain.code, shown.code) == (2, 2)
    assert (plain.out, shown.out) == ("", "")
    assert "Traceback" not in plain.err
    assert "Traceback (most recent call last)" in shown.err
    assert shown.err.endswith(plain.err)


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["pretrain", "--batch_size", "8"], ["pretrain", "--batch-size", "8"]),
        (["pretrain", "--gc_lr=a_b"], ["pretrain", "--gc-lr=a_b"]),
        (["eval_retrieval", "--poi_database_filepath", "a_b"], ["eval-retrieval", "--poi-database-filepath", "a_b"]),
        (["predict", "my_file", "-o", "a_b"], ["predict", "my_file", "-o", "a_b"]),
        (["finetune", "--schedule", "40", "80"], ["finetune", "--schedule", "40", "--schedule", "80"]),
        (["finetune", "--schedule", "4", "--lr", "1"], ["finetune", "--schedule", "4", "--lr", "1"]),
        (["finetune", "--schedule"], ["finetune", "--schedule"]),
        (["predict", "--", "--a_b"], ["predict", "--", "--a_b"]),
    ],
)
def test_published_spellings(given: list[str], wanted: list[str]) -> None:
    assert normalise(given) == wanted


def settings_of(run: Path) -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    return value


def test_dash_and_underscore_are_the_same_training(here: Path, tmp_path: Path) -> None:
    found = []
    for name, sign in (("dash", "-"), ("underscore", "_")):
        options = {"batch-size": 8, "gc-lr": 0.003, "moco-k": 24, "moco-gc-m": 0.7, "m-inc": 0.2, "print-freq": 2}
        options |= {"max-steps": 2, "runs-dir": tmp_path, "output-name": name}
        given = [part for option, value in options.items() for part in (f"--{option.replace('-', sign)}", value)]
        run = done(m3gal("pretrain", "-c", here / "data/tiny.yaml", *given, "--schedule", 40, 80)).run
        settings = settings_of(run)
        assert settings["optim"]["schedule"] == [40, 80]
        assert (settings["optim"]["batch_size"], settings["optim"]["location_lr"]) == (8, 0.003)
        momentum = settings["momentum"]
        assert (momentum["queue_size"], momentum["m_location"], momentum["m_location_increment"]) == (24, 0.7, 0.2)
        found.append(weights(run / "last"))
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())


@pytest.mark.parametrize("sources", range(4))
def test_precedence(here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: int) -> None:
    """Profile < environment < option < --set; the run's file says which it was."""
    given: list[object] = []
    if sources >= 1:
        monkeypatch.setenv("M3GAL_OPTIM__LR", "0.2")
    if sources >= 2:
        given += ["--lr", 0.3]
    if sources >= 3:
        given[:0] = ["--set", "optim.lr=0.4"]  # wherever it stands
    runs = ("--runs-dir", tmp_path, "--max-steps", 0)
    run = done(m3gal("pretrain", "-c", here / "data/tiny.yaml", *runs, *given)).run
    assert settings_of(run)["optim"]["lr"] == [0.01, 0.2, 0.3, 0.4][sources]
    assert run.name.startswith("pretrain-")


def test_precedence_in_an_evaluation(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the run's own settings take the profile's place."""
    assert len(done(m3gal("predict", "-", stdin="cafe\n")).lines()[0]["matches"]) == 5
    monkeypatch.setenv("M3GAL_EVAL__TOP_K", "2")
    assert len(done(m3gal("predict", "-", stdin="cafe\n")).lines()[0]["matches"]) == 2
    assert len(done(m3gal("predict", "-", "-k", 3, stdin="cafe\n")).lines()[0]["matches"]) == 3
    given = ("--set", "eval.top_k=4", "-k", 3)
    assert len(done(m3gal("predict", "-", *given, stdin="cafe\n")).lines()[0]["matches"]) == 4


def commands() -> dict[str, Any]:
    found, group = {}, typer.main.get_command(app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        found |= {f"{name} {sub}": c for sub, c in getattr(command, "commands", {}).items()} or {name: command}
    return found


def test_all_commands_are_there() -> None:
    data = {"data osm", "data geotes", "data table", "data sample", "data inspect"}
    assert set(commands()) == data | {"pretrain", "finetune", "eval-retrieval", "eval-rerank", "predict"}


@pytest.mark.parametrize("name", list(commands()))
def test_help_lists_every_option(name: str) -> None:
    words = set(done(m3gal(*name.split(), "--help")).out.replace("│", " ").replace(",", " ").split())
    for parameter in commands()[name].params:
        if parameter.param_type_name == "option":
            shown = not parameter.hidden and parameter.name != "help"
            for option in parameter.opts:
                assert (option in words) == shown or parameter.name == "help", option
    assert done(m3gal(*name.split(), "-h")).out


def test_version_and_help_without_torch() -> None:
    assert done(m3gal("--version")).out == f"m3gal {__version__}\n"
    top = done(m3gal("--help")).out
    assert all(name.split()[0] in top for name in commands())
    heavy = "{'torch', 'transformers', 'pandas'}"
    probe = f"import sys; from m3gal_cli.cli import app; print(sorted({heavy} & set(sys.modules)))"
    ended = subprocess.run([sys.executable, "-c", probe], env=ENVIRONMENT, text=True, capture_output=True, check=True)
    assert ended.stdout == "[]\n"


def test_no_help_has_brackets_that_would_vanish() -> None:
    """Rich takes what stands in brackets for markup, and leaves it out."""

    def options(command: Any, path: str) -> Iterator[tuple[str, str]]:
        for name, other in getattr(command, "commands", {}).items():
            yield from options(other, f"{path} {name}")
        for parameter in command.params:
            yield f"{path} {parameter.name}", getattr(parameter, "help", None) or ""

    helps = dict(options(typer.main.get_command(app), "m3gal"))
    assert len(helps) > 50
    assert {name for name, text in helps.items() if "[" in text.replace("\\[", "")} == set()
