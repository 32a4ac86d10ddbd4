"""The file of reranker weights: what is saved is loaded, and what is damaged is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from m3gal_cli.errors import InputError
from m3gal_cli.rerank.weights import (
    BEFORE_TRAINING_FILE,
    INPUTS,
    WEIGHTS_FILE,
    RerankerWeights,
    earlier_weights,
)
from tests.helpers.toy_models import reranker_weights


def assert_equal(one: RerankerWeights | None, other: RerankerWeights) -> None:
    assert one is not None
    assert (one.queries, one.made_queries) == (other.queries, other.made_queries)
    assert one.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


def test_weights_are_loaded_as_they_were_saved(tmp_path: Path) -> None:
    assert RerankerWeights.load(tmp_path) is None
    weights = reranker_weights(64, dense_score=1.0, query_coverage=0.5, first_half_match=-2.0)
    before = replace(reranker_weights(500, dense_score=2.0), made_queries=600)
    weights.save(tmp_path)
    before.save(tmp_path, BEFORE_TRAINING_FILE)
    assert_equal(RerankerWeights.load(tmp_path), weights)
    assert_equal(RerankerWeights.load(tmp_path, BEFORE_TRAINING_FILE), before)
    assert (tmp_path / WEIGHTS_FILE).stat().st_mode & 0o777 == 0o644


def test_weights_of_an_earlier_version_are_named_until_others_are_saved(tmp_path: Path) -> None:
    assert earlier_weights(tmp_path) is None
    for name in ("hybrid.json", "reranker.json"):
        (tmp_path / name).write_text("{}")
        assert earlier_weights(tmp_path) == tmp_path / name
    assert RerankerWeights.load(tmp_path) is None
    reranker_weights(dense_score=1.0).save(tmp_path, BEFORE_TRAINING_FILE)
    assert earlier_weights(tmp_path) is not None
    reranker_weights(dense_score=1.0).save(tmp_path)
    assert earlier_weights(tmp_path) is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": 9}, "format 9, expected 4"),
        ({"features": ["dense"]}, "for other features"),
        ({"style": []}, "for other features"),
        ({"queries": "many"}, "many"),
        ({}, ""),
    ],
)
def test_a_file_of_another_version_is_refused(tmp_path: Path, change: dict[str, object], problem: str) -> None:
    reranker_weights(dense_score=1.0).save(tmp_path)
    content = {"format": 4, **INPUTS, "queries": 30, "made_queries": 0} | change
    metadata = {"m3gal_reranker": json.dumps(content)} if change else None
    save_file(load_file(tmp_path / WEIGHTS_FILE), tmp_path / WEIGHTS_FILE, metadata)
    with pytest.raises(InputError, match="cannot be read") as caught:
        RerankerWeights.load(tmp_path)
    assert problem in str(caught.value)
    assert caught.value.where == str(tmp_path / WEIGHTS_FILE)


@pytest.mark.parametrize("damage", ["cut", "text", "nan", "shape", "missing"])
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    weights, path = reranker_weights(dense_score=1.0), tmp_path / WEIGHTS_FILE
    arrays = dict(weights.arrays)
    arrays |= {"out.bias": np.array([np.nan], np.float32)} if damage == "nan" else {}
    arrays |= {"out.bias": np.zeros(2, np.float32)} if damage == "shape" else {}
    replace(weights, arrays=arrays).save(tmp_path)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "text":
        path.write_text("{")
    elif damage == "missing":
        replace(weights, arrays={name: arrays[name] for name in arrays if name != "out.bias"}).save(tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        RerankerWeights.load(tmp_path)
