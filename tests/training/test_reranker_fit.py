"""Fit of the reranker before and after a training: examples, prior, files, metrics, messages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from m3gal_cli.config.paths import find_records
from m3gal_cli.data.query_styles import NO_PLACE
from m3gal_cli.data.records import Passage, Record, read_records
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED_MODEL
from m3gal_cli.matching.session import Session, open_session
from m3gal_cli.rerank.network import forward
from m3gal_cli.rerank.weights import BEFORE_TRAINING_FILE, WEIGHTS_FILE, RerankerWeights
from m3gal_cli.training.pipelines import leakage_warnings
from m3gal_cli.training.reranker_examples import ExampleTable, sample_pool
from m3gal_cli.training.reranker_fit import LEAST_POIS, MADE_PER_POI, fit_weights, read_poi_table
from m3gal_cli.training.run_directory import RunDirectory
from tests.helpers.cli import Answer, m3gal, steps, validations
from tests.helpers.sample_town import record, train, write_lines, write_town
from tests.helpers.toy_models import ToyEncoder, reranker_weights

TRAIN, VAL = 24, 20
WITHOUT = ("--set", "eval.rerank=false")


def labelled(i: int) -> Record:
    gold = Passage(f"cafe {i},street {i % 7}", 24.9 + i / 1000, 60.1)
    others = [Passage(f"shop {j},street {j}", 24.9 + j / 1000, 60.2) for j in range(5)]
    return Record(f"cafe {i}", [gold], others, lng=24.9 + i / 1000, lat=60.1)


def packaged() -> RerankerWeights:
    weights = RerankerWeights.load(PACKAGED_MODEL)
    assert weights is not None
    return weights


PRIOR = reranker_weights(dense_score=0.1)


def fit_toy(records: list[Record], pois: pd.DataFrame | None, prior: RerankerWeights = PRIOR) -> Any:
    encoder = ToyEncoder(width=8, reach=2)
    return fit_weights(records, pois, encoder, 0, lambda *_: None, prior)


def test_a_poi_table_of_the_same_passages_gives_the_same_weights() -> None:
    records = [labelled(i) for i in range(30)]
    passages = [(p.text, p.lng, p.lat) for r in records for p in r.passages]
    table = pd.DataFrame(passages, columns=["address", "lng", "lat"])
    with_table, without = fit_toy(records, table), fit_toy(records, None)
    assert with_table.queries == without.queries == 30
    assert 0 < with_table.made_queries <= 35 * MADE_PER_POI + len(NO_PLACE)
    assert fit_toy([], table).queries == 0
    assert fit_toy(records[: LEAST_POIS - 6], None) is None, "14 gold POIs and 5 shops"


def test_the_fit_learns_what_the_queries_mean() -> None:
    """The packaged weights trust vectors, but those of a toy encoder mean nothing; the fit learns the names."""
    records = [labelled(i) for i in range(140)]
    table = ExampleTable(sample_pool(records, None, 0), ToyEncoder(width=8, reach=2), lambda *_: None)
    right = []
    for weights in (packaged(), fit_toy(records, None, packaged())):
        chances = []
        for example in table.examples(table.labelled(records)):
            logits, no_match = forward(dict(weights.arrays), example.features, example.style)
            exps = np.exp(np.append(logits, no_match) - max(logits.max(), no_match))
            chances.append(exps[np.append(example.gold, not example.gold.any())].sum() / exps.sum())
        right.append(np.mean(np.array(chances) > 0.5))
    assert right[1] > 0.8 > right[0] + 0.3, right


def test_the_pool_has_a_sample_of_a_large_table_and_all_gold() -> None:
    records = [labelled(i) for i in range(10)]
    rows = [(f"place {i}", 24.0 + i / 1000, 60.0) for i in range(500)]
    rows += [(p.text, p.lng, p.lat) for r in records for p in r.positives]
    table = pd.DataFrame(rows, columns=["address", "lng", "lat"])
    pool = sample_pool(records, table, seed=1, size=50)
    assert 50 <= len(pool) <= 60
    assert {r.positives[0].text for r in records} <= set(pool["address"])
    assert not pool.duplicated().any()
    assert pool.equals(sample_pool(records, table, seed=1, size=50))
    assert len(sample_pool(records, None, seed=1)) == 10 + 5


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile of the town with enough queries for a fit."""
    folder = tmp_path_factory.mktemp("fit")
    profile = write_town(folder)
    profile.write_text(profile.read_text().replace("rerank: false", "rerank: true"))
    write_lines(folder / "train_dataset_use_gis.jsonl", [record(i) for i in range(TRAIN)])
    write_lines(folder / "val_dataset_use_gis.jsonl", [record(9 + i) for i in range(VAL)])
    return profile


def finetune(town: Path, name: str, *options: object) -> Answer:
    return train("finetune", town, name, "--batch-size", 8, *options)


@pytest.fixture(scope="module")
def start(town: Path) -> Path:
    return train("pretrain", town, "start", "--epochs", 1, *WITHOUT).run


@pytest.fixture(scope="module")
def answer(town: Path, start: Path) -> Answer:
    return finetune(town, "whole", "--init", start, "--epochs", 1)


@pytest.fixture(scope="module")
def run(answer: Answer) -> Path:
    return answer.run


def reranker_rows(run: Path) -> list[dict[str, Any]]:
    return [row for row in RunDirectory(run).rows() if row["kind"] == "reranker"]


def weights_of(run: Path, name: str = WEIGHTS_FILE) -> RerankerWeights:
    weights = RerankerWeights.load(run / "best" if name == WEIGHTS_FILE else run, name)
    assert weights is not None
    return weights


def difference(one: RerankerWeights, other: RerankerWeights) -> float:
    return max(float(np.abs(one.arrays[name] - other.arrays[name]).max()) for name in one.arrays)


def oracle(session: Session, split: str, prior: RerankerWeights) -> RerankerWeights:
    """Fit weights with a checkpoint that was loaded from its files."""
    config = session.config
    path = find_records(config.data, split)
    assert path is not None
    pois = read_poi_table(config.data)
    weights = fit_weights(read_records(path), pois, session.encoder, config.seed, lambda *_: None, prior)
    assert weights is not None
    return weights


def test_the_prior_is_fitted_with_the_model_before_the_training(run: Path, start: Path) -> None:
    """Its own prior are the packaged weights."""
    prior = weights_of(run, BEFORE_TRAINING_FILE)
    assert prior.queries == TRAIN
    assert difference(prior, oracle(open_session(start, {}), "train", packaged())) < 1e-3
    assert difference(prior, oracle(open_session(run, {}), "train", packaged())) > 1e-2, "the model has changed"


def test_the_weights_are_fitted_on_the_validation_records_near_the_prior(answer: Answer, run: Path) -> None:
    session, prior, weights = open_session(run, {}), weights_of(run, BEFORE_TRAINING_FILE), weights_of(run)
    assert weights.queries == VAL
    assert difference(weights, oracle(session, "val", prior)) < 1e-3
    assert difference(weights, oracle(session, "val", packaged())) > 1e-2
    made = f"{weights.made_queries} queries made from the POI table"
    assert f"reranker: fitted on {VAL} validation queries and {made}" in answer.err


def test_the_reranked_metrics_are_logged_reported_and_on_the_model_card(town: Path, run: Path) -> None:
    (row,) = reranker_rows(run)
    validation = town.parent / "val_dataset_use_gis.jsonl"
    wanted = m3gal("eval-rerank", "--checkpoint", run, "--json", "--no-sparse", "--test", validation).json()["metrics"]
    assert row["metrics"] == {"reranked": wanted["reranked"]}
    assert (row["step"], row["n_queries"]) == (validations(run)[0]["step"], VAL)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert f"reranked {wanted['reranked']['recall@1']:.3f}" in page
    assert '<th scope="row">reranked</th>' in page
    assert "| reranked | " in (run / "best" / "README.md").read_text(encoding="utf-8")


def test_a_run_without_a_step_has_no_prior(town: Path, start: Path) -> None:
    own = finetune(town, "no step", "--init", start, "--max-steps", 0).run
    assert not (own / BEFORE_TRAINING_FILE).exists()
    assert difference(weights_of(own), oracle(open_session(own, {}), "val", packaged())) < 1e-3


@pytest.mark.parametrize("options", [("--init", "--max-steps", 1), ("--resume", "--epochs", 2)])
def test_the_weights_of_a_finetuned_model_are_the_prior(town: Path, run: Path, options: tuple[object, ...]) -> None:
    """The model may know the training records, so nothing is fitted on them."""
    how, *more = options
    own = finetune(town, f"finetuned before {how}", how, run, *more).run
    assert difference(weights_of(own, BEFORE_TRAINING_FILE), weights_of(run)) == 0
    assert weights_of(own).queries == VAL


def test_without_validation_records_the_fit_has_made_queries_only(town: Path, start: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for path in town.parent.glob("*.*"):
        shutil.copy(path, data)
    (data / "val_dataset_use_gis.jsonl").unlink()
    answer = finetune(data / town.name, "made", "--data-dir", data, "--init", start, "--max-steps", 1)
    assert difference(weights_of(answer.run, BEFORE_TRAINING_FILE), packaged()) == 0
    weights = weights_of(answer.run)
    assert weights.queries == 0 < weights.made_queries
    assert "reranker: fitted on 0 validation queries and " in answer.err
    assert reranker_rows(answer.run) == []


def test_the_fit_does_not_change_the_training(town: Path, start: Path, run: Path) -> None:
    without = finetune(town, "without", "--init", start, "--epochs", 1, *WITHOUT).run
    assert not (without / BEFORE_TRAINING_FILE).exists()
    assert RerankerWeights.load(without / "best") is None
    losses = [[row["fused_loss"] for row in steps(path)] for path in (run, without)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == TRAIN // 8


def test_a_resumed_run_keeps_the_prior_and_a_new_run_does_not(town: Path, start: Path) -> None:
    own = finetune(town, "resumed twice", "--init", start, "--max-steps", 1).run
    prior = (own / BEFORE_TRAINING_FILE).read_bytes()
    finetune(town, own.name, "--resume", "auto", "--max-steps", 2)
    assert (own / BEFORE_TRAINING_FILE).read_bytes() == prior
    assert len(reranker_rows(own)) == 1
    (own / BEFORE_TRAINING_FILE).write_text("{")
    answer = finetune(town, own.name, "--resume", "auto", "--max-steps", 3)
    assert f"the reranker is not fitted: {answer.run / BEFORE_TRAINING_FILE}: cannot be read" in answer.err
    folder = town.parent / "runs" / "left behind"
    folder.mkdir()
    (folder / BEFORE_TRAINING_FILE).write_bytes(prior)
    finetune(town, folder.name, "--init", start, "--max-steps", 1, *WITHOUT)
    assert not (folder / BEFORE_TRAINING_FILE).exists()


def test_a_finished_run_without_weights_gets_them_when_it_is_resumed(town: Path, start: Path) -> None:
    """The process may have been killed during the fit."""
    own = finetune(town, "no weights", "--init", start, "--max-steps", 1, *WITHOUT).run
    answer = finetune(town, own.name, "--resume", "auto", "--max-steps", 1)
    assert "nothing is left to do" in answer.err
    assert weights_of(own).queries == VAL


def test_validation_queries_among_the_training_records_are_a_warning(town: Path, start: Path, tmp_path: Path) -> None:
    """The query text and a gold POI must be the same."""
    rows = [record(i) for i in range(12)]
    leaking = write_lines(tmp_path / "val.jsonl", [*rows[:5], record(0, query="another text"), record(30)])
    answer = finetune(town, "leaking", "--init", start, "--max-steps", 1, "--set", f"data.val={leaking}", *WITHOUT)
    assert "5 of 7 validation queries" in answer.err
    assert "5 of 7 validation queries" in (answer.run / "metrics.jsonl").read_text()
    records = read_records(leaking)
    assert leakage_warnings(records[:5], records[5:]) == []
