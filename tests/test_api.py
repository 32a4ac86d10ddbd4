"""The Python API: the answers and the errors of ``m3gal predict``, DataFrames in and out."""

from __future__ import annotations

import doctest
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import m3gal_cli
from m3gal_cli import Matcher, api
from m3gal_cli.errors import InputError
from tests.helpers.cli import m3gal
from tests.helpers.sample_town import PLACES, place, train, write_lines, write_town

TEXTS = ["north street cafe", "castle hill museum", "harbour road hotel"]
LOCATION = {"lng": 24.9, "lat": 60.1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run ``runs/only``."""
    path = tmp_path_factory.mktemp("api")
    answer = train("pretrain", write_town(path), "only", "--max-steps", 3)
    assert answer.code == 0, answer.err
    return path


@pytest.fixture(autouse=True)
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def matcher(folder: Path) -> Matcher:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return Matcher.load("runs/only")


def predicted(*options: Any, location: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Return the answers of ``m3gal predict``."""
    write_lines(Path("queries.jsonl"), [{"query": text, **(location or {})} for text in TEXTS])
    answer = m3gal("predict", "queries.jsonl", "--checkpoint", "runs/only", *options)
    assert answer.code == 0, answer.err
    return [json.loads(line) for line in answer.out.splitlines()]


@pytest.mark.parametrize("runtime", ["torch", pytest.param("onnx-int8", marks=pytest.mark.integration)])
def test_answers_are_those_of_predict(runtime: str) -> None:
    if runtime != "torch":
        pytest.importorskip("onnxruntime")
    matcher = Matcher.load("runs/only", encoder_runtime=runtime)
    assert len(matcher) == PLACES
    assert matcher.match(TEXTS, k=4) == predicted("-k", 4, "--encoder-runtime", runtime)


def test_filters_are_those_of_predict(matcher: Matcher) -> None:
    near = matcher.match(TEXTS, k=40, **LOCATION, within_km=2.5)
    assert near == predicted("-k", 40, "--within-km", 2.5, location=LOCATION)
    assert 0 < len(near[0]["matches"]) < PLACES
    assert all(match["distance_m"] <= 2500 for match in near[0]["matches"])
    box = matcher.match(TEXTS, k=40, bbox=(24.9, 60.1, 24.93, 60.12))
    assert box == predicted("-k", 40, "--bbox", "24.9,60.1,24.93,60.12")


def test_a_table_and_settings_replace_those_of_the_run(folder: Path) -> None:
    messages: list[str] = []
    table = folder / "few.csv"
    table.write_text("address,lng,lat\nmill lane school 3,24.9,60.1\n", encoding="utf-8")
    matcher = Matcher.load(pois=table, index="exact", index_dir=str(folder / "few"), log=messages.append)
    assert [m["address"] for m in matcher.match("school")[0]["matches"]] == ["mill lane school 3"]
    first, second = messages
    assert first == "checkpoint: runs/only/best (the newest run's best)"
    assert second.startswith("few.csv: no id column")
    assert (folder / "few" / "manifest.json").exists()


def test_an_index_alone_gives_model_and_pois(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index, frame = (
        str(tmp_path / "index"),
        pd.DataFrame([place(i) for i in range(6)], columns=["address", "lng", "lat"]),
    )
    frame = frame.assign(poi_id=list("abcdef"), stars=[1, "two", 3.0, None, (5,), "six"], seats=range(6))
    wanted = Matcher.load("runs/only", frame, index_dir=index).match(TEXTS, columns=["all"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = Matcher.load(index_dir=index)
    assert len(found) == 6
    assert found.match(TEXTS, columns=["all"]) == wanted
    by_id = {match["poi_id"]: match for match in found.match("cafe", k=6, columns=["all"])[0]["matches"]}
    assert by_id["b"]["seats"] == 1
    assert by_id["b"]["stars"] == "two"
    assert Matcher.load(pois=frame.iloc[:4], index_dir=index).match("cafe", k=9)[0]["matches"][3]["rank"] == 4
    assert len(Matcher.load(index_dir=index)) == 4, "the index follows a table that is given"


def test_a_data_frame_is_a_poi_table(folder: Path, matcher: Matcher) -> None:
    before = sorted(folder.rglob("*"))
    frame = pd.DataFrame([place(i) for i in range(PLACES)], columns=["address", "lng", "lat"])
    pois = frame.assign(poi_id=[f"id {i}" for i in range(PLACES)], other=None)
    answers = Matcher.load("runs/only", pois).match(TEXTS)
    assert sorted(folder.rglob("*")) == before, "the index is in a temporary folder"
    for answer, of_file in zip(answers, matcher.match(TEXTS), strict=True):
        ids = [f"id {match['poi_id']}" for match in of_file["matches"]]
        assert [match["poi_id"] for match in answer["matches"]] == ids
    with pytest.raises(InputError, match="has no column lng"):
        Matcher.load("runs/only", frame[["address"]])
    with pytest.raises(InputError, match="pois is list"):
        Matcher.load("runs/only", [1, 2])  # type: ignore[arg-type]


def test_a_data_frame_in_another_schema_is_read_by_its_columns(folder: Path) -> None:
    shops = pd.DataFrame([place(i) for i in range(6)], columns=["street", "x", "latitude"])
    shops = shops.assign(title=[f"Shop {i}" for i in range(6)], shop_no=list("abcdef"), phone=range(6))
    matcher = Matcher.load(folder / "runs/only", shops, columns="id=shop_no, lng=x")
    (answer,) = matcher.match("shop 3", k=6, columns=["phone"])
    found = {m["poi_id"]: (m["name"], m["phone"]) for m in answer["matches"]}
    assert found == {key: (f"Shop {i}", i) for i, key in enumerate("abcdef")}
    shops.loc[4, "latitude"] = 95.0
    with pytest.raises(InputError, match="95 is outside") as caught:
        Matcher.load(folder / "runs/only", shops, columns="id=shop_no, lng=x")
    assert caught.value.where == "pois: row 5: latitude"


def test_answers_as_a_data_frame(matcher: Matcher) -> None:
    answers = matcher.match(TEXTS, k=2, **LOCATION)
    frame = answers.to_frame()
    expected = [{"query_id": a["id"], "query": a["query"], **m} for a in answers for m in a["matches"]]
    assert frame.to_dict("records") == expected
    assert len(frame) == 6
    assert "distance_m" not in matcher.match(TEXTS).to_frame().columns
    for empty in (matcher.match(TEXTS, bbox=(0.0, 0.0, 1.0, 1.0)), matcher.match([])):
        assert len(empty.to_frame()) == 0
        assert {"query_id", "rank", "poi_id"} <= set(empty.to_frame().columns)


@pytest.mark.parametrize("k", [10**9, np.int64(100)])
def test_k_above_the_size_of_the_table_returns_all_pois(matcher: Matcher, k: int) -> None:
    assert len(matcher.match("cafe", k=k)[0]["matches"]) == PLACES


@pytest.mark.parametrize(
    ("queries", "options", "problem"),
    [
        ("  ", {}, "query 1 is '  '"),
        (["a", 3], {}, "query 2 is 3"),
        (None, {}, "queries is None"),
        ("a", {"k": 0}, "k is 0"),
        ("a", {"k": "5"}, "k is '5'"),
        ("a", {"k": 2.5}, "k is 2.5"),
        ("a", {"lng": 1.0}, "lng is given without lat"),
        ("a", {"lng": "east", "lat": 1.0}, "lng is 'east'"),
        ("a", {"lng": 1.0, "lat": [2.0]}, "lat is .2.0."),
        ("a", {"within_km": 1.0}, "within_km is given without lng and lat"),
        ("a", {"lng": 190.0, "lat": 1.0}, "not on the Earth"),
        ("a", {**LOCATION, "within_km": -1.0}, "within_km is -1.0"),
        ("a", {"bbox": (1.0, 2.0, 3.0, -2.0)}, "south is greater than north"),
        ("a", {"bbox": (1.0, 2.0)}, "bbox is"),
        ("a", {"bbox": 3}, "bbox is 3"),
    ],
)
def test_wrong_arguments_are_named(matcher: Matcher, queries: Any, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        matcher.match(queries, **options)


def test_a_box_with_swapped_axes_gives_a_warning(matcher: Matcher) -> None:
    with pytest.warns(UserWarning, match="longitude and latitude swapped"):
        assert matcher.match("cafe", bbox=(60.0, 24.0, 61.0, 25.0))[0]["matches"] == []


def test_unknown_settings_runs_and_names() -> None:
    with pytest.raises(InputError, match="nonsense"):
        Matcher.load("runs/only", nonsense=1)
    with pytest.raises(InputError, match="no such"):
        Matcher.load("runs/none")
    with pytest.raises(AttributeError, match="Nothing"):
        _ = m3gal_cli.Nothing


def test_the_examples_of_the_documentation_are_right() -> None:
    assert doctest.testmod(api, raise_on_error=False) == (0, 6)
