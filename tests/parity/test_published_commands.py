"""The four command lines of the published page, word for word after ``python -m …`` becomes ``m3gal …``."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.helpers.cli import done, m3gal, steps

COMMANDS = {
    "src.M3GAL.moco_train": "pretrain",
    "src.M3GAL.biencoder_finetune": "finetune",
    "evaluation.evaluate_retrieval": "eval-retrieval",
    "evaluation.evaluate_rerank": "eval-rerank",
}


@pytest.fixture(scope="module")
def published(shared: Path) -> dict[str, list[str]]:
    """The arguments of each command, by our name of it."""
    page = (shared / "published" / "README.md").read_text(encoding="utf-8")
    found = {}
    for line in re.findall(r"^python -m .*$", page, flags=re.MULTILINE):
        _python, _m, module, *arguments = shlex.split(line)
        found[COMMANDS[module]] = arguments
    assert set(found) == set(COMMANDS.values())
    return found


@pytest.fixture(params=["pth", "jsonl"])
def tree(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The published file tree, filled from the golden files: candidate sets as they were pickled, or as our twins."""
    golden, data = shared / "golden", tmp_path / "data"
    data.mkdir()
    kind = str(request.param)
    source = golden / ("candidates_use_gis.pth" if kind == "pth" else "candidates.jsonl")
    for name in ("train_dataset_use_gis", "test_dataset_use_gis_1000", "val_dataset_use_gis_1000"):
        shutil.copyfile(source, data / f"{name}.{kind}")
    shutil.copyfile(source, data / f"test_dataset_use_gis_20000.{kind}")
    shutil.copyfile(golden / "candidates.jsonl", data / "test_dataset.jsonl")
    for name in ("same_poi_views_100k.csv", "same_poi_views_mgeo.csv"):
        shutil.copyfile(golden / "views.csv", data / name)
    for name in ("mgeo_poi_database_train_use_negative.csv", "mgeo_poi_database_use_negative.csv"):
        shutil.copyfile(golden / "poi_database.csv", data / name)
    pretrained = tmp_path / "checkpoints" / "M3GAL_pretrained"
    pretrained.mkdir(parents=True)
    shutil.copyfile(golden / "checkpoint_0000_best.pth.tar", pretrained / "checkpoint_0027_best.pth.tar")
    shutil.copytree(golden / "text_encoder", tmp_path / "bert-base-chinese", copy_function=shutil.copyfile)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_pretrain(tree: Path, published: dict[str, list[str]]) -> None:
    shrunk = ("--set", "optim.batch_size=8", "--set", "optim.max_steps=2", "--set", "run.print_freq=1")
    run = m3gal("pretrain", *published["pretrain"], *shrunk).run
    assert run == Path("runs/M3GAL_pretrained")
    assert (tree / run / "checkpoint_0000_best.pth.tar").is_file()
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["data"]["views"] == str(tree / "data" / "same_poi_views_100k.csv")
    assert Path(settings["data"]["val"]).stem == "val_dataset_use_gis_1000"
    assert settings["optim"]["epochs"] == 100
    assert settings["optim"]["lr"] == 0.001
    assert settings["optim"]["location_lr"] == 0.00001
    assert settings["optim"]["schedule"] == [40, 80]
    assert settings["optim"]["loss"] == "fused"
    assert settings["momentum"]["queue_size"] == 16384
    assert settings["momentum"]["m"] == 0.999
    assert settings["momentum"]["m_location"] == 0.999
    assert settings["momentum"]["m_location_increment"] == 0.01
    assert settings["model"]["text_encoder"] == "bert-base-chinese"
    assert settings["seed"] == 2023
    rows = steps(run)
    assert [row["lr"] for row in rows] == [0.001, 0.001]
    assert [row["location_lr"] for row in rows] == [0.00001, 0.00001]


def test_finetune(tree: Path, published: dict[str, list[str]]) -> None:
    shrunk = ("--set", "optim.batch_size=4", "--set", "optim.max_steps=1")
    run = m3gal("finetune", *published["finetune"], *shrunk, "--set", "data.shuffle=false").run
    assert run == Path("runs/M3GAL_finetune_biencoder")
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert Path(settings["data"]["train"]).stem == "train_dataset_use_gis"
    assert settings["optim"]["lr"] == settings["optim"]["location_lr"] == 0.0001
    assert settings["optim"]["schedule"] == [10, 20]
    assert settings["optim"]["epochs"] == 30
    assert settings["seed"] == 202312


def test_finetune_starts_from_the_checkpoint_that_it_resumes(
    tree: Path, published: dict[str, list[str]], shared: Path
) -> None:
    """The first loss does not depend on the rates: it is the golden one if the weights are the checkpoint's."""
    shrunk = ("--set", "optim.batch_size=4", "--set", "optim.max_steps=1", "--set", "run.print_freq=1")
    run = m3gal("finetune", *published["finetune"], *shrunk, "--set", "data.shuffle=false").run
    first = json.loads((shared / "golden" / "finetune.json").read_text(encoding="utf-8"))["steps"][0]
    assert steps(run)[0]["fused_loss"] == pytest.approx(first["total_loss"], abs=1e-5)


def test_eval_rerank(tree: Path, published: dict[str, list[str]], shared: Path) -> None:
    found = done(m3gal("eval-rerank", *published["eval-rerank"], "--json")).json()
    wanted = json.loads((shared / "golden" / "rerank.json").read_text(encoding="utf-8"))
    for kind in ("text", "fused"):
        assert {k: found["metrics"][kind][k] for k in wanted[kind]} == pytest.approx(wanted[kind], abs=1e-12)


def test_eval_retrieval(tree: Path, published: dict[str, list[str]]) -> None:
    found = done(m3gal("eval-retrieval", *published["eval-retrieval"], "--json")).json()
    assert (found["n_queries"], found["n_pois"]) == (24, 400)
    assert found["checkpoint"] == "checkpoints/M3GAL_pretrained/checkpoint_0027_best.pth.tar"
    table = done(m3gal("eval-retrieval", *published["eval-retrieval"])).out
    fused = next(line for line in table.splitlines() if " fused " in line)
    assert f"{found['metrics']['fused']['mrr@5']:.3f}" in fused


def test_commands_with_an_underscore(tree: Path, published: dict[str, list[str]]) -> None:
    dash, underscore = (
        done(m3gal(n, *published["eval-rerank"], "--json")).json() for n in ("eval-rerank", "eval_rerank")
    )
    assert dash["metrics"] == underscore["metrics"]


@pytest.mark.parametrize("tree", ["jsonl"], indirect=True)
@pytest.mark.parametrize("spelling", [["--schedule", "40", "80"], ["--schedule=40,80"], ["--schedule", "40,80"]])
@pytest.mark.parametrize("batch", ["--batch_size=8", "--batch-size=8"])
def test_other_spellings_mean_the_same(
    tree: Path, published: dict[str, list[str]], spelling: list[str], batch: str
) -> None:
    given = [*published["pretrain"]]
    at = given.index("--schedule")
    given[at : at + 3] = spelling
    given = [batch if arg.startswith("--batch_size") else arg for arg in given]
    given = [a.replace("_", "-", a.partition("=")[0].count("_")) if a.startswith("--m_") else a for a in given]
    run = m3gal("pretrain", *given, "--max-steps", 1).run
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["optim"]["schedule"] == [40, 80]
    assert settings["optim"]["batch_size"] == 8
    assert settings["momentum"]["m_location_increment"] == 0.01
