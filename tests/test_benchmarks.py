"""The benchmarks: generated data, the arithmetic of features.py, the published step, and whole runs of each program."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import data_osm
import features
import generated_city
import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest
import shapely
import tables
import torch
import training

from m3gal_cli.config.load import load_config
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.facts import gather_facts
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.osm.places import Place
from m3gal_cli.rerank.examples import STYLE_NAMES
from m3gal_cli.rerank.features import FEATURE_NAMES
from m3gal_cli.text.normalise import reading_key
from m3gal_cli.training.network_fit import Example
from tests.helpers.extracts import Town, small_town
from tests.helpers.sample_town import views

FOLDER = Path(data_osm.__file__).parent
CANDIDATES = 30


def run_program(name: str, *options: object) -> dict[str, Any]:
    """Run a benchmark with ``--json`` and return its values."""
    command = [sys.executable, str(FOLDER / name), "--json", *map(str, options)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)  # type: ignore[no-any-return]


def read_places(path: Path) -> list[tuple[Place, float]]:
    """Return the places of an extract with the metres to their crossing, -1 without one."""
    extract = read_extract(path)
    places = deduplicate_places(extract)
    facts = gather_facts(places, extract, [False] * len(places))
    return [(p, f.crossing.metres if f.crossing else -1.0) for p, f in zip(places, facts, strict=True)]


def test_syllables_are_distinct() -> None:
    assert len({data_osm.syllable(k) for k in range(10_000)}) == 10_000
    assert [data_osm.syllable(k) for k in (0, 1, 69, 70)] == ["Ba", "Be", "Zu", "Baba"]


@pytest.mark.parametrize("copies", [1, 20])
def test_each_copy_of_an_extract_has_the_places_and_facts_of_the_original(tmp_path: Path, copies: int) -> None:
    original = read_places(small_town().write(tmp_path / "town.osm"))
    data_osm.Elements.read(tmp_path / "town.osm").write(tmp_path / "large.osm.pbf", copies)
    copied = read_places(tmp_path / "large.osm.pbf")
    assert len(copied) == copies * len(original) > 10
    assert len({p.poi_id for p, _ in copied}) == len({reading_key(p.label) for p, _ in copied}) == len(copied)
    end = f" {data_osm.syllable(copies - 1)}"
    last = {p.name.removesuffix(end): metres for p, metres in copied if p.name.endswith(end)}
    for place, metres in original:
        if place.name:
            assert last[place.name] == pytest.approx(
                metres, rel=5e-3
            )  # farther north, degrees of longitude are shorter


def test_a_missing_extract_is_wrong_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["data_osm.py", "--extract", str(tmp_path / "no.osm.pbf")])
    with pytest.raises(SystemExit) as ended:
        data_osm.main()
    assert ended.value.code == 2


def test_the_published_step_has_the_losses_of_m3gal() -> None:
    """From equal weights and queues, without dropout, the first losses are equal."""
    frame = pd.DataFrame(views(), columns=["address1", "address2", "lng", "lat"])
    model, tokenizer = training.new_model(argparse.Namespace(text_encoder=None, hidden=32, layers=1), frame)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    sets = ["momentum.queue_size=64", "optim.batch_size=16", f"optim.lr={training.LR}", "device=cpu", "optim.epochs=9"]
    sets += [f"optim.location_lr={training.LR}", "momentum.location_increment=0.999", "optim.precision=fp32"]
    published = training.PublishedStep(model, tokenizer, frame, 64, torch.device("cpu"))
    config = load_config("osm.yaml", {}, sets)
    trainer, step = training.m3gal_trainer(model, tokenizer, frame, config, Path("unused"))
    trainer.objective.start_epoch(0)
    with torch.no_grad():
        trainer.objective.queue.queue.copy_(published.queue)
        trainer.objective.queue.gc_queue.copy_(published.gc_queue)
    for i in range(4):
        rows = np.arange(16 * i, 16 * i + 16)
        names, losses = step(rows)
        own = dict(zip(names, losses.tolist(), strict=True))["fused"]
        assert own == pytest.approx(float(published.step(rows)), abs=1e-4), i


def examples_with(seed: int, count: int, name: str) -> list[Example]:
    """Return queries whose gold has the largest value of a feature; other features are random."""
    generator, column, out = np.random.default_rng(seed), FEATURE_NAMES.index(name), []
    for _ in range(count):
        drawn, gold = generator.uniform(0, 1, (CANDIDATES, len(FEATURE_NAMES))), np.zeros(CANDIDATES, bool)
        gold[generator.integers(CANDIDATES)] = True
        drawn[gold, column] = 2.0
        style = np.concatenate([np.ones(len(STYLE_NAMES)), drawn.max(axis=0), drawn.mean(axis=0)])
        out.append(Example(drawn, style, gold))
    return out


def test_recall_without_a_feature_shows_what_it_contributes() -> None:
    fitted, ranked = (examples_with(seed, 600, "name_coverage") for seed in (0, 1))
    for own in ranked[::4]:
        own.features[np.flatnonzero(~own.gold)[0]] = own.features[own.gold][0]  # a tie, which never helps
    sets = {"some": ranked[:300], "without gold": [Example(e.features, e.style, e.gold & False) for e in ranked[:3]]}
    found = features.ablation(fitted, sets, ["dense_score", "name_coverage,dense_score"], [1])
    assert list(found) == ["all", "without dense_score", "without name_coverage,dense_score"]
    assert found["all"]["some"] == found["without dense_score"]["some"] == 0.75
    assert found["without name_coverage,dense_score"]["some"] < 0.2
    assert found["all"]["without gold"] == 0.0


def test_a_feature_that_is_left_out_is_0_for_candidates_and_query() -> None:
    (one,) = examples_with(2, 1, "name_coverage")
    (left,) = features.without_features([one], ["name_coverage", "dense_score"])
    gone = [name in ("name_coverage", "dense_score") for name in FEATURE_NAMES]
    of_style = np.array([*([False] * len(STYLE_NAMES)), *gone, *gone])
    assert not left.features[:, gone].any()
    assert not left.style[of_style].any()
    assert np.array_equal(left.features[:, ~np.array(gone)], one.features[:, ~np.array(gone)])
    assert np.array_equal(left.style[~of_style], one.style[~of_style])


def test_generated_vectors_are_reproducible_and_of_unit_length() -> None:
    pois = generated_city.addresses(9000)
    assert pois["address"].is_unique
    assert pois["lng"].between(119.8, 120.6).all()
    assert pois["lat"].between(30.0, 30.5).all()
    sample = np.random.default_rng(0).standard_normal((6000, 8)).astype(np.float32)
    sample /= np.linalg.norm(sample, axis=1, keepdims=True)
    vectors = generated_city.text_vectors(np.arange(9000), sample)
    assert (vectors[:6000] == sample).all()
    assert (vectors == generated_city.text_vectors(np.arange(9000), sample)).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.integration
@pytest.mark.parametrize(
    "name", ["data_osm", "evaluation", "features", "results", "retrieval", "tables", "training", "updates"]
)
def test_help_shows_how_to_run_a_benchmark(name: str) -> None:
    command = [sys.executable, str(FOLDER / f"{name}.py"), "--help"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert f"python benchmarks/{name}.py" in answer.stdout


@pytest.mark.integration
def test_the_data_osm_benchmark_runs(tmp_path: Path) -> None:
    town = Town()
    for n in range(4):
        town.way([(-100, n * 200), (700, n * 200)], highway="residential", name=f"{'ABCD'[n]}lpha Street")
        town.way([(n * 200, -100), (n * 200, 700)], highway="residential", name=f"{'EFGH'[n]}cho Road")
    for n in range(40):
        town.node(n % 10 * 70.0, n // 10 * 70.0 + 10, amenity="cafe", name=f"Cafe {chr(65 + n % 26)}{n}")
    source, keep = town.write(tmp_path / "grid.osm"), tmp_path / "kept"
    options = ["--megabytes", 0.02, "--extract", source, "--keep", keep, "--", "--suffix", "grid"]
    values = run_program("data_osm.py", *options)
    assert values["copies"] > 1
    assert values["places"] == 40 * values["copies"]
    assert values["pairs"] > values["places"]
    assert values["megabytes"] == pytest.approx(0.02, abs=0.02)
    assert values["ratio_to_bare_pass"] == pytest.approx(values["seconds"] / values["bare_pass_seconds"], rel=0.01)
    assert 50 < values["peak_rss_mb"] < 2000
    assert set(values["read_and_join"]) == {"reading", "places", "facts"}
    assert (keep / "out" / "same_poi_views_grid.csv").exists()


def test_generated_places_are_distinct_points_in_groups() -> None:
    assert [len(table) for table in tables.places(300, 128)] == [128, 128, 44]
    (places,) = tables.places(300, 300)
    for column in (places["id"], pc.struct_field(places["names"], "primary")):
        assert pc.count_distinct(column).as_py() == 300
    points = shapely.from_wkb(places["geometry"].to_numpy(zero_copy_only=False))
    for values, corner in ((shapely.get_x(points), "xmin"), (shapely.get_y(points), "ymax")):
        np.testing.assert_allclose(values, pc.struct_field(places["bbox"], corner).to_numpy(), rtol=1e-6)
    assert places["operating_status"].to_pylist().count("permanently_closed") == 3


@pytest.mark.integration
def test_the_tables_benchmark_runs() -> None:
    values = run_program("tables.py", "--rows", 3000)
    assert (values["rows"], values["written_rows"]) == (3000, 2970)
    assert values["ratio_to_copy"] == pytest.approx(values["seconds"] / values["copy_seconds"], rel=0.05)
    assert 50 < values["peak_rss_mb"] < values["bar_mb"] == 1500


@pytest.mark.integration
def test_the_training_benchmark_runs() -> None:
    shape = "--layers 1 --hidden 32 --batch-size 16 --queue 64 --steps 1 --device cpu"
    values = run_program("training.py", *shape.split())
    rate = values["samples_per_second"]
    for name in ("fp32", "bf16"):
        assert values[f"ratio_{name}"] == pytest.approx(rate[name] / rate["published"], rel=0.02)
        assert 0 < values[f"ceiling_share_{name}"] < 1
    assert values["ceiling_share"] == values["ceiling_share_bf16"]


@pytest.mark.integration
def test_the_evaluation_benchmark_finds_the_ranks_of_all_scores(tmp_path: Path) -> None:
    options = ["--pois", 900, "--queries", 40, "--dim", 24, "--against-all", "--text-dir", tmp_path / "texts"]
    values = run_program("evaluation.py", *options)
    assert values["ranks_equal"] == {"text": 1.0, "location": 1.0, "fused": 1.0}
    assert (values["pois"], values["queries"], values["dim"]) == (900, 40, 24)
    assert values["counting_gflops"] > 0 < min(values["matmul_gflops"])
    assert (tmp_path / "texts" / "vectors" / "000000.npy").is_file()


@pytest.mark.integration
def test_the_updates_benchmark_runs() -> None:
    values = run_program("updates.py", "--pois", 3000, "--dim", 24, "--changes", 100)
    assert (values["pois"], values["dim"], values["changes"]) == (3000, 24, 100)
    assert values["add_ratio"] == pytest.approx(values["add_s"] / values["build_s"])
    names = "delete_s sync_s compact_s open_s first_answer_s search_ratio megabytes size_ratio"
    assert all(values[name] > 0 for name in names.split())


@pytest.mark.integration
def test_the_retrieval_benchmark_agrees_with_the_published_search() -> None:
    values = run_program("retrieval.py", "--pois", 2000, "--queries", 10, "--encode", 20, "--repeat", 1)
    assert (values["pois"], values["queries"], values["ranks_equal"]) == (2000, 10, 1.0)
    names = "search_ratio encode_ratio exact_ms ann_ms ann_recall memory_ratio exact_reranked_ms ann_reranked_ms"
    assert all(values[name] > 0 for name in names.split())


@pytest.mark.integration
def test_the_benchmarks_of_the_packaged_model_and_of_the_sparse_search_run() -> None:
    packaged = run_program("packaged.py", "--texts", 60)
    assert packaged["cosine_min"] > 0.97
    assert packaged["answer_ms"] > packaged["rerank_ms"] > 0
    assert packaged["bulk_ratio"] == pytest.approx(packaged["texts_s"] / packaged["torch_texts_s"], rel=1e-3)
    sparse = run_program("sparse.py", "--count", 3000)
    assert sparse["name_overlap"] == sparse["address_overlap"] == 1.0  # so few rows are searched exactly
    assert sparse["name_ms"] <= sparse["name_p95_ms"]
