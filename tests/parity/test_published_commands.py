"""The four command lines of the published README, with ``python -m …`` replaced by ``m3gal …``."""

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
    """The arguments of each published command, by the name of ours."""
    page = (shared / "published" / "README.md").read_text(encoding="utf-8")
    result = {}
    for line in re.findall(r"^python -m .*$", page, flags=re.MULTILINE):
        _python, _m, module, *arguments = shlex.split(line)
        result[COMMANDS[module]] = arguments
    assert set(result) == set(COMMANDS.values())
    return result


@pytest.fixture(params=["pth", "jsonl"])
def tree(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The published file tree, filled from the golden files: candidates as pickled datasets or as JSON lines."""
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
    views = Path(settings["data"]["views"].replace("${run}", str(run)))
    assert views.resolve() == tree / "data" / "same_poi_views_100k.csv"
    assert Path(settings["data"]["val"]).stem == "val_dataset_use_gis_1000"
    optim = {"epochs": 100, "lr": 0.001, "location_lr": 0.00001, "schedule": [40, 80], "loss": "fused"}
    momentum = {"queue_size": 16384, "text": 0.999, "location": 0.999, "location_increment": 0.01}
    assert optim.items() <= settings["optim"].items()
    assert momentum.items() <= settings["momentum"].items()
    assert settings["model"]["text_encoder"] == "bert-base-chinese"
    assert settings["seed"] == 2023
    assert [(row["lr"], row["location_lr"]) for row in steps(run)] == [(0.001, 0.00001)] * 2


def test_finetune(tree: Path, published: dict[str, list[str]], shared: Path) -> None:
    """The first loss does not depend on the learning rates: it is the golden one for the weights of the checkpoint."""
    shrunk = ("--set", "optim.batch_size=4", "--set", "optim.max_steps=1", "--set", "run.print_freq=1")
    run = m3gal("finetune", *published["finetune"], *shrunk, "--set", "data.shuffle=false").run
    assert run == Path("runs/M3GAL_finetune_biencoder")
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert Path(settings["data"]["train"]).stem == "train_dataset_use_gis"
    optim = {"epochs": 30, "lr": 0.0001, "location_lr": 0.0001, "schedule": [10, 20]}
    assert optim.items() <= settings["optim"].items()
    assert settings["seed"] == 202312
    first = json.loads((shared / "golden" / "finetune.json").read_text(encoding="utf-8"))["steps"][0]
    assert steps(run)[0]["fused_loss"] == pytest.approx(first["total_loss"], abs=1e-5)


def test_eval_rerank(tree: Path, published: dict[str, list[str]], shared: Path) -> None:
    result = done(m3gal("eval-rerank", *published["eval-rerank"], "--json")).json()
    wanted = json.loads((shared / "golden" / "rerank.json").read_text(encoding="utf-8"))
    for kind in ("text", "fused"):
        assert {k: result["metrics"][kind][k] for k in wanted[kind]} == pytest.approx(wanted[kind], abs=1e-12)


def test_eval_retrieval(tree: Path, published: dict[str, list[str]]) -> None:
    result = done(m3gal("eval-retrieval", *published["eval-retrieval"], "--json")).json()
    assert (result["n_queries"], result["n_pois"]) == (24, 400)
    assert result["checkpoint"] == "checkpoints/M3GAL_pretrained/checkpoint_0027_best.pth.tar"


@pytest.mark.parametrize("tree", ["jsonl"], indirect=True)
@pytest.mark.parametrize(
    ("batch", "spelling"), [("--batch_size=8", ["--schedule=40,80"]), ("--batch-size=8", ["--schedule", "40,80"])]
)
def test_other_spellings_of_options_work(
    tree: Path, published: dict[str, list[str]], batch: str, spelling: list[str]
) -> None:
    given = [*published["pretrain"]]
    start = given.index("--schedule")
    given[start : start + 3] = spelling
    given = [batch if arg.startswith("--batch_size") else arg for arg in given]
    given = [a.replace("_", "-", a.partition("=")[0].count("_")) if a.startswith("--m_") else a for a in given]
    run = m3gal("pretrain", *given, "--max-steps", 1).run
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["optim"]["schedule"] == [40, 80]
    assert settings["optim"]["batch_size"] == 8
    assert settings["momentum"]["location_increment"] == 0.01
