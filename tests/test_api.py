"""The Python API gives what ``m3gal predict`` gives, and refuses what it refuses."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import pytest

import m3gal_cli
from m3gal_cli import Matcher, api
from m3gal_cli.errors import InputError
from tests.helpers.cli import m3gal
from tests.helpers.sample_town import PLACES, write_lines, write_town

TYPED = ["north street cafe", "castle hill museum", "harbour road hotel"]
HERE = {"lng": 24.9, "lat": 60.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, ``runs/only``."""
    path = tmp_path_factory.mktemp("api")
    profile = write_town(path / "data")
    answer = m3gal(
        "pretrain", "--config", profile, "--runs-dir", path / "runs", "--output-name", "only", "--max-steps", 3
    )
    assert answer.code == 0, answer.err
    return path


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def predicted(folder: Path, *options: Any, place: dict[str, float] | None = None) -> list[dict[str, Any]]:
    rows = [{"query": text, **(place or {})} for text in TYPED]
    write_lines(folder / "typed.jsonl", rows)
    answer = m3gal("predict", "typed.jsonl", "--checkpoint", "runs/only", *options)
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


@pytest.mark.parametrize("runtime", ["torch", "onnx-int8"])
def test_the_answers_of_predict(folder: Path, runtime: str) -> None:
    if runtime != "torch":
        pytest.importorskip("onnxruntime")
    matcher = Matcher.load("runs/only", encoder_runtime=runtime)
    assert len(matcher) == PLACES
    assert matcher.match(TYPED, k=4) == predicted(folder, "-k", 4, "--encoder-runtime", runtime)


def test_places_and_areas(folder: Path) -> None:
    matcher = Matcher.load("runs/only")
    near = matcher.match(TYPED, k=40, **HERE, within_km=2.5)
    assert near == predicted(folder, "-k", 40, "--within-km", 2.5, place=HERE)
    assert 0 < len(near[0]["matches"]) < PLACES
    assert all(match["distance_m"] <= 2500 for match in near[0]["matches"])
    box = matcher.match(TYPED, k=40, bbox=(24.9, 60.1, 24.93, 60.12))
    assert box == predicted(folder, "-k", 40, "--bbox", "24.9,60.1,24.93,60.12")


def test_loading_tells_and_takes_settings_and_tables(folder: Path) -> None:
    said: list[str] = []
    table = folder / "few.csv"
    table.write_text("address,lng,lat\nmill lane school 3,24.9,60.1\n", encoding="utf-8")
    matcher = Matcher.load(pois=table, index="exact", index_dir=str(folder / "few"), log=said.append)
    assert [m["address"] for m in matcher.match("school")[0]["matches"]] == ["mill lane school 3"]
    assert said == ["checkpoint: runs/only/best (the newest run's best)"]
    assert (folder / "few" / "manifest.json").exists()


@pytest.mark.parametrize(
    ("queries", "options", "what"),
    [
        ("  ", {}, "query 1 is empty"),
        (["a", 3], {}, "query 2 is empty or no text: 3"),
        ("a", {"k": 0}, "k 0 is no number"),
        ("a", {"lng": 1.0}, "half a place"),
        ("a", {"within_km": 1.0}, "half a place"),
        ("a", {"lng": 190.0, "lat": 1.0}, "not on the Earth"),
        ("a", {**HERE, "within_km": -1.0}, "no distance"),
        ("a", {"bbox": (1.0, 2.0, 3.0, -2.0)}, "no box"),
    ],
)
def test_what_is_refused(queries: Any, options: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        Matcher.load("runs/only").match(queries, **options)


def test_no_queries_unknown_settings_and_names() -> None:
    assert Matcher.load("runs/only").match([]) == []
    with pytest.raises(InputError, match="nonsense"):
        Matcher.load("runs/only", nonsense=1)
    with pytest.raises(InputError, match="no such"):
        Matcher.load("runs/none")
    with pytest.raises(AttributeError, match="Nothing"):
        _ = m3gal_cli.Nothing


def test_the_documentation_is_right() -> None:
    assert doctest.testmod(api, raise_on_error=False) == (0, 5)
