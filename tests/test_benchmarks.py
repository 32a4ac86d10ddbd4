"""The benchmarks: what they generate is what they say, their stand-ins do what is published, their figures add up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import data_osm
import evaluation
import evidence
import generated_city
import numpy as np
import pytest
import retrieval

from m3gal_cli.config.schema import Config, DataConfig
from m3gal_cli.osm.extract import read_extract
from m3gal_cli.osm.facts import gather_facts
from m3gal_cli.osm.places import Place, distinct_places
from m3gal_cli.rerank.features import FEATURES
from m3gal_cli.text.normalise import reads
from m3gal_cli.training.reranker_fit import Example
from tests.helpers.extracts import Town, small_town


def read(path: Path) -> list[tuple[Place, float]]:
    """Places with the metres to their crossing, -1 for none."""
    extract = read_extract(path)
    places = distinct_places(extract)
    facts = gather_facts(places, extract, [False] * len(places))
    return [(p, f.crossing[2].metres if f.crossing else -1.0) for p, f in zip(places, facts, strict=True)]


def test_syllables_are_distinct() -> None:
    assert len({data_osm.syllable(k) for k in range(10_000)}) == 10_000
    assert [data_osm.syllable(k) for k in (0, 1, 69, 70)] == ["Ba", "Be", "Zu", "Baba"]


@pytest.mark.parametrize("copies", [1, 20])
def test_a_copy_has_the_places_and_facts_of_the_original(tmp_path: Path, copies: int) -> None:
    original = read(small_town().write(tmp_path / "town.osm"))
    data_osm.Pattern.read(tmp_path / "town.osm").write(tmp_path / "large.osm.pbf", copies)
    found = read(tmp_path / "large.osm.pbf")
    assert len(found) == copies * len(original) > 10
    assert len({p.poi_id for p, _ in found}) == len({reads(p.reading) for p, _ in found}) == len(found)
    end = f" {data_osm.syllable(copies - 1)}"
    last = {p.name.removesuffix(end): metres for p, metres in found if p.name.endswith(end)}
    for place, metres in original:
        if place.name:
            assert last[place.name] == pytest.approx(metres, rel=5e-3)  # a row farther north the east is nearer


def test_it_prints_one_object_of_figures(tmp_path: Path) -> None:
    town = Town()
    for n in range(4):
        town.way([(-100, n * 200), (700, n * 200)], highway="residential", name=f"{'ABCD'[n]}lpha Street")
        town.way([(n * 200, -100), (n * 200, 700)], highway="residential", name=f"{'EFGH'[n]}cho Road")
    for n in range(40):
        town.node(n % 10 * 70.0, n // 10 * 70.0 + 10, amenity="cafe", name=f"Cafe {chr(65 + n % 26)}{n}")
    source, keep = town.write(tmp_path / "grid.osm"), tmp_path / "kept"
    script = [sys.executable, data_osm.__file__, "--json", "--megabytes", "0.02"]
    command = [*script, "--extract", str(source), "--keep", str(keep), "--", "--suffix", "grid"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures = json.loads(answer.stdout)
    assert figures["copies"] > 1
    assert figures["places"] == 40 * figures["copies"]
    assert figures["pairs"] > figures["places"]
    assert figures["megabytes"] == pytest.approx(0.02, abs=0.02)
    assert figures["ratio_to_bare_pass"] == pytest.approx(figures["seconds"] / figures["bare_pass_seconds"], rel=0.01)
    assert 50 < figures["peak_rss_mb"] < 2000
    assert set(figures["read_and_join"]) == {"reading", "places", "facts"}
    assert (keep / "out" / "same_poi_views_grid.csv").exists()


def test_an_extract_that_is_not_there(tmp_path: Path) -> None:
    command = [sys.executable, data_osm.__file__, "--extract", str(tmp_path / "no.osm.pbf")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 2
    assert "no such extract" in answer.stderr


def test_the_training_benchmark_prints_one_object_of_figures() -> None:
    script = Path(data_osm.__file__).with_name("training.py")
    shape = [
        "--layers",
        "1",
        "--hidden",
        "32",
        "--batch-size",
        "16",
        "--queue",
        "64",
        "--steps",
        "1",
        "--device",
        "cpu",
    ]
    answer = subprocess.run(
        [sys.executable, str(script), "--json", *shape], capture_output=True, text=True, timeout=300, check=True
    )
    figures = json.loads(answer.stdout)
    rate = figures["samples_per_second"]
    for name in ("fp32", "bf16"):
        assert figures[f"ratio_{name}"] == pytest.approx(rate[name] / rate["published"], rel=0.02)
        assert 0 < figures[f"ceiling_share_{name}"] < 1
    assert figures["ceiling_share"] == figures["ceiling_share_bf16"]


def test_the_published_step_of_the_benchmark_learns_as_ours_does() -> None:
    """The stand-in is no straw man: from the same weights, without dropout, both take the same first losses."""
    import argparse

    import numpy as np
    import torch
    import training

    from tests.helpers.sample_town import views

    frame = training.pd.DataFrame(views(), columns=["address1", "address2", "lng", "lat"])
    options = argparse.Namespace(text_encoder=None, hidden=32, layers=1)
    model, tokenizer = training.new_model(options, frame)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    sets = ["momentum.queue_size=64", "optim.batch_size=16", f"optim.lr={training.LR}", "device=cpu", "optim.epochs=9"]
    sets += [f"optim.location_lr={training.LR}", "momentum.m_location_increment=0.999", "optim.precision=fp32"]
    config = training.load_config("osm.yaml", {}, sets)
    published = training.Published(model, tokenizer, frame, 64, torch.device("cpu"))
    step = training.ours(model, tokenizer, frame, config, Path("unused"))
    trainer = step.__closure__[1].cell_contents
    trainer.task.start_epoch(0)
    with torch.no_grad():
        trainer.task.queue.queue.copy_(published.queue)
        trainer.task.queue.gc_queue.copy_(published.gc_queue)
    for i in range(4):
        rows = np.arange(16 * i, 16 * i + 16)
        names, seen = step(rows)
        own = dict(zip(names, seen.tolist(), strict=True))["fused"]
        assert own == pytest.approx(float(published.step(rows)), abs=1e-4), i


def test_evaluation_over_a_generated_table_is_that_of_all_scores(tmp_path: Path) -> None:
    """Texts and places that rows share are there, and gold that several rows have the text or the place of."""
    pois, _ = evaluation.generated(900, 40)
    assert pois["address"].nunique() < 900 > pois[["lng", "lat"]].drop_duplicates().shape[0]
    assert pois["poi_id"].is_unique
    script = [sys.executable, evaluation.__file__, "--json", "--pois", "900", "--queries", "40", "--dim", "24"]
    command = [*script, "--against-all", "--text-dir", str(tmp_path / "texts")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures = json.loads(answer.stdout)
    assert figures["ranks_equal"] == {"text": 1.0, "location": 1.0, "fused": 1.0}
    assert (figures["pois"], figures["queries"], figures["dim"]) == (900, 40, 24)
    assert figures["counting_gflops"] > 0 < min(figures["plain_gflops"])
    assert (tmp_path / "texts" / "vectors" / "000000.npy").is_file()


def test_the_retrieval_benchmark_prints_one_object_of_figures() -> None:
    """Exact search agrees with the published way; approximate search and memory are told of."""
    script = [sys.executable, retrieval.__file__, "--json", "--pois", "2000", "--queries", "10", "--encode", "20"]
    answer = subprocess.run([*script, "--repeat", "1"], capture_output=True, text=True, timeout=300, check=True)
    figures = json.loads(answer.stdout)
    assert (figures["pois"], figures["queries"], figures["ranks_equal"]) == (2000, 10, 1.0)
    for name in (
        "search_ratio",
        "encode_ratio",
        "exact_ms",
        "ann_ms",
        "ann_recall",
        "memory_ratio",
        "exact_hybrid_ms",
        "ann_hybrid_ms",
    ):
        assert figures[name] > 0, name


def test_what_evidence_is_worth() -> None:
    """Of thirty candidates one, two for every third query, has the most of one evidence; the others are noise."""
    draw, examples = np.random.default_rng(0), []
    for i in range(100):
        table, gold = draw.uniform(0, 0.1, (30, len(FEATURES))), np.zeros(30, bool)
        gold[draw.integers(30)] = True
        table[gold, FEATURES.index("name")] = 1.0
        if i % 3 == 0:
            table[np.flatnonzero(~gold)[0]] = table[gold][0]
        examples.append(Example(table, gold))
    parts = evidence.parted(examples)
    assert sorted(len(part) for part in parts) == [20] * 5
    assert {id(e) for part in parts for e in part} == {id(e) for e in examples}
    weights = evidence.crossed(parts)
    assert evidence.recall(parts, weights, 100) == {1: 0.66, 5: 1.0, 20: 1.0}, "ties are lost"
    assert evidence.recall(parts, weights, 125)[5] == 0.8, "the rest are misses"
    less = [evidence.without(part, ["name", "dense"]) for part in parts]
    blind = evidence.recall(less, evidence.crossed(less), 100)
    assert blind[1] < 0.2 < blind[20] < 0.9
    assert evidence.without(examples, ["name"])[0].evidence[:, FEATURES.index("name")].tolist() == [0.0] * 30


def test_a_part_has_no_say_in_its_own_weights() -> None:
    """In one part the gold has the most of ``opening``, in the other the least: each teaches the other the wrong."""

    def part(sign: float) -> list[Example]:
        draw, made = np.random.default_rng(0), []
        for _ in range(20):
            table, gold = np.zeros((30, len(FEATURES))), np.zeros(30, bool)
            gold[0], own = True, FEATURES.index("opening")  # may speak against
            table[:, own] = draw.uniform(-1, 1, 30)
            table[0, own] = sign
            made.append(Example(table, gold))
        return made

    parts = [part(2.0), part(-2.0)]
    weights = evidence.crossed(parts)
    assert evidence.recall(parts, weights, 40) == {1: 0.0, 5: 0.0, 20: 0.0}
    assert evidence.recall(parts, weights[::-1], 40)[1] == 1.0


def test_runs_that_share_test_records_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two seeds of one fold: else the one would teach the other its answers."""
    for run in ("a", "b"):
        (tmp_path / f"{run}.jsonl").write_text("the same\n", encoding="utf-8")
    config = {run: Config(data=DataConfig(test=str(tmp_path / f"{run}.jsonl"))) for run in ("a", "b")}
    monkeypatch.setattr(evidence, "open_session", lambda run, sets: SimpleNamespace(config=config[run.name]))
    monkeypatch.setattr(sys, "argv", ["evidence.py", "a", "b"])
    with pytest.raises(SystemExit) as ended:
        evidence.main()
    assert ended.value.code == 2
    assert "folds of one seed" in capsys.readouterr().err


def test_the_generated_city_is_the_same_in_parts() -> None:
    """A row's text vector does not depend on the rows asked for with it, if their first is the same; all are unit."""
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
