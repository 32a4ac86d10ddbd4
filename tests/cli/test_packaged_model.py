"""The packaged model: commands without a run, and trainings that start from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from m3gal_cli import Matcher
from m3gal_cli.cli import training
from m3gal_cli.config.load import load_config
from m3gal_cli.core.checkpoint import load_checkpoint
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.index.manifest import read_manifest
from m3gal_cli.training import pipelines
from m3gal_cli.training.initial_model import new_model
from m3gal_cli.training.stage import StartOptions
from tests.helpers.cli import done, m3gal
from tests.helpers.sample_town import place, record, views, write_csv, write_lines

POIS = [list(place(i)) for i in range(12)]
MESSAGE = "checkpoint: the packaged model (no run in runs/)\n"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a POI table and no run."""
    folder = tmp_path_factory.mktemp("packaged")
    write_csv(folder / "shops.csv", ["address", "lng", "lat"], POIS)
    return folder


def test_predict_answers_a_text_without_a_run(here: Path) -> None:
    first = done(m3gal("predict", "north street cafe", "--pois", "shops.csv", "-k", 1))
    assert first.lines()[0]["query"] == "north street cafe"
    assert first.lines()[0]["matches"][0]["address"] == place(0)[0]
    assert first.err.startswith(f"{MESSAGE}index: index/shops (built once; later calls use it and keep it current)\n")
    again = done(m3gal("predict", "north street cafe", "--pois", "shops.csv", "-k", 1))
    assert (again.out, again.err) == (first.out, MESSAGE)
    assert (read_manifest(here / "index/shops") or {})["model_reference"] == "packaged"
    alone = done(m3gal("predict", "north street cafe", "--index-dir", "index/shops", "-k", 1))
    assert alone.out == first.out
    assert alone.err == "checkpoint: the packaged model (the model of the index)\n"


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_table_of_few_pois_has_a_match_for_its_names_and_none_for_other_texts(count: int, tmp_path: Path) -> None:
    names = ["Hotel Kämp", "Bayview Medical Center", "Muumi Puoti", "Bäckerei Kluge", "星光广场药房"][:count]
    pois = [[f"{name},{i} Harbour Road,Old Town", 24.9 + i / 100, 60.1] for i, name in enumerate(names)]
    write_csv(tmp_path / "few.csv", ["address", "lng", "lat"], pois)
    matcher = Matcher.load("packaged", pois=tmp_path / "few.csv", index_dir=tmp_path / "index")
    for name, answer in zip(names, matcher.match(names, k=1, min_score=0.8), strict=True):
        assert [match["address"].split(",")[0] for match in answer["matches"]] == [name]
    others = ["SELECT * FROM users", "12345", "Vuorikadun apteekki", "zzqy"]
    assert [answer["matches"] for answer in matcher.match(others, min_score=0.5)] == [[]] * 4


def test_without_a_run_and_a_table_the_missing_table_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refused = m3gal("predict", "a cafe")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"{MESSAGE}error: data: no POI table\nGive --pois FILE")
    assert list(tmp_path.iterdir()) == []


def test_several_arguments_are_several_queries_and_may_look_like_paths(here: Path) -> None:
    texts = ["harbour road bakery", "mill lane/castle hill", '{"query": "a cafe", "id": "x"}', "two\nlines"]
    answer = done(m3gal("predict", *texts, "--pois", "shops.csv", "--checkpoint", "packaged"))
    assert [(row["id"], row["query"]) for row in answer.lines()] == [
        (1, texts[0]),
        (2, texts[1]),
        ("x", "a cafe"),
        (4, "two lines"),
    ]
    assert answer.err == "", "no message: the model is named"


def test_a_file_of_queries_is_no_text(here: Path) -> None:
    write_lines(here / "queries", ["harbour road bakery"])
    assert done(m3gal("predict", "queries", "--pois", "shops.csv")).lines()[0]["query"] == "harbour road bakery"
    for name in ("none.csv", "none.JSONL", f"{here}/none"):
        refused = m3gal("predict", name, "--pois", "shops.csv")
        assert (refused.code, refused.out) == (2, "")
        assert refused.err.endswith(f"error: {name}: no such file of queries\nCheck the path.\n")
    for file, words in (("queries", "queries is a file"), ("-", "- is stdin")):
        refused = m3gal("predict", "a cafe", file, "--pois", "shops.csv")
        assert refused.code == 2
        assert refused.err == (
            f"error: {words}, and there are further arguments\nGive one file of queries, or query texts only.\n"
        )
    empty = m3gal("predict", "a cafe", " ", "--pois", "shops.csv")
    assert (empty.code, empty.err) == (2, "error: query 2 is empty\nGive texts that are not empty.\n")


def test_the_evaluation_and_the_python_api_take_the_packaged_model_too(here: Path) -> None:
    write_lines(here / "test.jsonl", [record(i) for i in range(6)])
    report = done(m3gal("eval-retrieval", "--pois", "shops.csv", "--test", "test.jsonl", "--json", "--no-bm25"))
    assert report.err.startswith(MESSAGE)
    assert report.json()["metrics"]["text"]["recall@5"] > 0.8
    own = Matcher.load(pois=here / "shops.csv").match("north street cafe", k=1)
    assert own[0]["matches"][0]["address"] == place(0)[0]


def test_float32_query_vectors_search_an_index_of_int8_vectors(here: Path) -> None:
    given = ("predict", "harbour road bakery", "--pois", "shops.csv", "-k", 3, "--no-rerank")
    int8, float32 = (done(m3gal(*given, *more)) for more in ((), ("--encoder-runtime", "torch")))
    assert "building it again" not in float32.err
    scores = [[m["score"] for m in answer.lines()[0]["matches"]] for answer in (int8, float32)]
    assert scores[0] != scores[1]
    assert np.allclose(*scores, atol=0.03)


@pytest.mark.parametrize(
    ("options", "profile"),
    [
        ({}, "geotes.yaml"),
        ({"init": "runs/a"}, "paper-finetune.yaml"),
        ({"init": "packaged"}, "geotes.yaml"),
        ({"resume": "auto"}, "paper-finetune.yaml"),
        ({"set": ["model.text_encoder=scratch"]}, "paper-finetune.yaml"),
        ({"set": ["optim.lr=0.1"]}, "geotes.yaml"),
    ],
)
def test_a_training_that_names_no_encoder_has_a_profile_for_the_packaged_model(
    options: dict[str, object], profile: str
) -> None:
    assert training._default_profile("finetune", {}, {"init": None, "resume": None, "set": None} | options) == profile


def test_a_new_model_has_the_packaged_encoder_and_a_location_encoder_for_its_own_table() -> None:
    config = load_config("geotes.yaml", sets=["model.max_length=20", "model.query_prefix=q"])
    made = new_model(config, np.array([10.0, 12.0]), np.array([50.0, 52.0]), ["a"])
    packaged = load_checkpoint(PACKAGED_MODEL, parts=("query",))
    settings, own = made.model.settings, packaged.model.settings
    for name in ("pooling", "append_sep", "max_length", "query_prefix", "passage_prefix"):
        assert getattr(settings, name) == getattr(own, name)
    assert settings.location_weight == config.model.location_weight
    assert (settings.normalizer.lng_mean, settings.normalizer.lat_std) == (11.0, 1.0)
    weights = packaged.model.encoder_q.text_encoder.state_dict()
    for encoder in (made.model.encoder_q, made.model.encoder_k):
        state = encoder.text_encoder.state_dict()
        assert all(state[name].equal(value) for name, value in weights.items() if "pooler" not in name)
    assert made.path == PACKAGED_MODEL, "from here the reranker weights before the training are read"


def test_the_packaged_model_as_init_replaces_the_encoder_of_the_profile() -> None:
    config, options = pipelines._start(load_config("osm.yaml"), StartOptions(init="packaged"))
    assert (config.model.text_encoder, options.init) == (None, None)
    assert config.model.location_encoder == "mlp", "all else is of the profile"
    unchanged = (load_config("osm.yaml"), StartOptions(init="runs/a"))
    assert pipelines._start(*unchanged) == unchanged


def test_pretraining_starts_from_it_by_default(here: Path) -> None:
    write_csv(here / "same_poi_views_t.csv", ["address1", "address2", "lng", "lat"], views())
    answer = done(m3gal("pretrain", "--data-dir", here, "--batch-size", 4, "--dry-run", "--json", "--device", "cpu"))
    assert answer.err.startswith(
        "profile: views.yaml, from the packaged model (no --config, --init or --text-encoder)\n"
    )
    assert json.loads(answer.out)["stage"] == "pretrain"


def test_its_scores_are_the_probabilities_of_all_candidates_and_the_rest_is_that_of_no_match(here: Path) -> None:
    queries = ("north street cafe", "SELECT * FROM users")
    lines = done(m3gal("predict", *queries, "--pois", "shops.csv", "-k", len(POIS))).lines()
    named, nothing = (sum(match["score"] for match in line["matches"]) for line in lines)
    assert [len(line["matches"]) for line in lines] == [len(POIS)] * 2
    assert nothing < 0.2
    assert 0.6 < named <= 1.0
    least = done(m3gal("predict", *queries, "--pois", "shops.csv", "--min-score", 0.5)).lines()
    assert [len(line["matches"]) for line in least] == [1, 0]
