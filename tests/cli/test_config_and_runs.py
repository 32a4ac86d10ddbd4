"""``m3gal config`` and ``m3gal runs``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from m3gal_cli.config.load import load_config
from tests.helpers.cli import done, m3gal


def test_config_show_prints_the_resolved_settings_as_yaml_or_json() -> None:
    given = ("config", "show", "--config", "demo.yaml", "--set", "optim.lr=0.25")
    wanted = load_config("demo.yaml", sets=["optim.lr=0.25"]).model_dump()
    answer = done(m3gal(*given))
    assert yaml.safe_load(answer.out) == wanted
    assert done(m3gal(*given, "--json")).json() == wanted
    assert answer.err == ""
    assert m3gal("config", "show", "--set", "optim.lrr=1").code == 2


def test_config_list_names_the_packaged_profiles_with_a_sentence_each() -> None:
    profiles = done(m3gal("config", "list", "--json")).json()
    assert profiles["demo.yaml"] == "A small model in minutes on two CPU cores, without downloads."
    table = done(m3gal("config", "list")).out
    assert all(name in table for name in profiles)


def write_run(folder: Path, name: str, step: int, metrics: dict[str, float]) -> None:
    for kind, at, values in (("last", step, {}), ("best", step - 5, metrics)):
        path = folder / name / kind
        path.mkdir(parents=True)
        meta = {"stage": "pretrain", "step": at, "metrics": values}
        (path / "m3gal.json").write_text(json.dumps(meta))


def test_runs_list_shows_the_newest_run_first(tmp_path: Path) -> None:
    metrics = {"text.recall@1": 0.9, "fused.recall@1": 0.5}
    for name, time, own in (("a", 2_000_000_000, metrics), ("b", 1, {})):
        write_run(tmp_path, name, 10, own)
        os.utime(tmp_path / name / "last/m3gal.json", (time, time))
    (tmp_path / "empty").mkdir()
    rows = json.loads(done(m3gal("runs", "list", "--runs-dir", tmp_path, "--json")).out)
    found = [tuple(row[name] for name in ("name", "stage", "steps", "metric", "value")) for row in rows]
    assert found == [("a", "pretrain", 10, "fused.recall@1", 0.5), ("b", "pretrain", 10, None, None)]
    assert rows[0]["date"].startswith("2033-05-1")
    assert rows[0]["checkpoint"] == str(tmp_path / "a/best")
    table = done(m3gal("runs", "list", "--runs-dir", tmp_path)).out
    assert "fused.recall@1 0.500" in table


def test_runs_list_without_runs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    answer = done(m3gal("runs", "list"))
    assert (answer.out, answer.err) == ("", "runs: no run with a checkpoint\n")
    write_run(tmp_path, "runs/a", 10, {})
    Path("runs/a/best/m3gal.json").write_text("{")
    assert m3gal("runs", "list").code == 2
