"""Evidence on candidates against what its words say, worked out one by one; weights that are kept and refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made import MakeIndex, clustered, make_index  # noqa: F401

from m3gal_cli.data.coordinates import haversine_m
from m3gal_cli.data.queries import Query
from m3gal_cli.errors import InputError
from m3gal_cli.retrieval.hybrid import (
    EVIDENCE,
    SCALE,
    Candidates,
    Hybrid,
    Weights,
    evidence,
    open_lexicon,
    probabilities,
)
from m3gal_cli.retrieval.lexical import LexicalIndex, character_ngrams
from m3gal_cli.retrieval.lexicon import Lexicon

TEXTS = [
    "星光广场,商场,文三路1号",
    "药房，医疗,文三路9号",
    "药房，医疗,文三路9号",
    "药房北店,医疗,学院路2号",
    "停车场",
    "!!",
]
LNG = np.array([120.0, 120.001, 120.001, 120.3, 179.9999, 120.0])
LAT = np.array([30.0, 30.0, 30.0, 30.2, 30.0, 30.0])
DENSE = np.array([0.5, 0.25, 0.25, 0.75, -0.5, 0.0])
FOUND = Candidates(TEXTS, DENSE, LNG, LAT)
LEXICON = Lexicon.of([*TEXTS, "文三路", "别的"])
QUERY = Query(1, "星光广场对面药房", 120.01, 30.0)


def column(name: str, query: Query = QUERY, found: Candidates = FOUND) -> np.ndarray:
    place = EVIDENCE.index(name)
    return evidence(query, found, LEXICON)[:, place] / SCALE[place]


def test_dense_and_lexical() -> None:
    np.testing.assert_allclose(column("dense"), DENSE)
    bm25 = LexicalIndex([*TEXTS, "文三路", "别的"]).scores(QUERY.text)[: len(TEXTS)]
    higher = [sum(other > own + 1e-6 for other in bm25) for own in bm25]
    np.testing.assert_allclose(column("lexical"), [-math.log(1 + n) for n in higher])


def test_name_is_the_share_of_the_head_that_is_typed() -> None:
    def idf(gram: str) -> float:
        return float(LEXICON.idf([gram])[0])

    def share(name: str) -> float:
        grams = set(character_ngrams(name))
        return sum(idf(g) for g in grams if g in QUERY.text) / sum(idf(g) for g in grams)

    wanted = [1.0, 1.0, 1.0, share("药房北店"), share("停车场"), 0.0]
    np.testing.assert_allclose(column("name"), wanted)
    assert 0 < wanted[3] < 1


def test_around_counts_what_neighbours_say_and_the_candidate_does_not() -> None:
    terms = LEXICON.terms(QUERY.text)
    share = dict(zip(terms.grams, terms.shares, strict=True))
    wanted = []
    for i, text in enumerate(TEXTS):
        total = 0.0
        for gram, part in share.items():
            metres = [haversine_m(LNG[i], LAT[i], LNG[j], LAT[j]) for j in range(len(TEXTS)) if gram in TEXTS[j]]
            if gram not in text and metres:
                total += part * math.exp(-float(min(metres)) / 500.0)
        wanted.append(total)
    np.testing.assert_allclose(column("around"), wanted, rtol=1e-3, atol=1e-6)
    assert wanted[1] > 0.3, "the pharmacy stands by the square"
    assert wanted[3] < 1e-6


def test_around_across_the_date_line() -> None:
    both = Candidates(["星光广场", "药房"], np.zeros(2), np.array([179.9999, -179.9999]), np.zeros(2))
    terms = LEXICON.terms(QUERY.text)
    said = [sum(s for g, s in zip(terms.grams, terms.shares, strict=True) if g in text) for text in both.texts]
    np.testing.assert_allclose(column("around", found=both), said[::-1], rtol=0.05)


def test_near_is_there_where_the_place_is_known() -> None:
    metres = haversine_m(120.01, 30.0, LNG, LAT)
    np.testing.assert_allclose(column("near_1km"), np.exp(-metres / 1000))
    np.testing.assert_allclose(column("near_3km"), np.exp(-metres / 3000))
    assert not column("near_1km", Query(1, QUERY.text)).any()


def test_equal_candidates_score_equal_and_none_at_all_is_no_error() -> None:
    weights = Weights(tuple(np.linspace(0.1, 1.3, len(EVIDENCE))), 30)
    hybrid = Hybrid(weights, LEXICON)
    scores = hybrid.scores(QUERY, FOUND)
    assert scores[1] == scores[2]
    np.testing.assert_allclose(scores, evidence(QUERY, FOUND, LEXICON) @ np.array(weights.values))
    empty = Candidates([], np.zeros(0), np.zeros(0), np.zeros(0))
    assert hybrid.scores(QUERY, empty).shape == (0,)
    assert probabilities(np.zeros(0)).shape == (0,)
    np.testing.assert_allclose(probabilities(np.array([1000.0, 1000.0, -1000.0])), [0.5, 0.5, 0.0])
    assert hybrid.scores(Query(1, "?!"), FOUND).shape == (6,)


def test_weights_are_kept_and_damaged_ones_named(tmp_path: Path) -> None:
    assert Weights.load(tmp_path) is None
    weights = Weights((1.0, 0.5, 0.25, 2.0, 0.0, 3.0), 64)
    weights.save(tmp_path)
    assert Weights.load(tmp_path) == weights
    path = tmp_path / "hybrid.json"
    good = json.loads(path.read_text())
    for broken in ("{", "[]", json.dumps(good | {"format": 9}), json.dumps(good | {"weights": {"dense": 1.0}})):
        path.write_text(broken)
        with pytest.raises(InputError, match="cannot be read") as refused:
            Weights.load(tmp_path)
        assert "hybrid.json" in str(refused.value)
    path.write_text(json.dumps(good).replace("0.25", "NaN"))
    with pytest.raises(InputError, match="no number"):
        Weights.load(tmp_path)


def test_the_lexicon_of_an_index_is_made_once_and_again_where_it_is_damaged(make_index: MakeIndex) -> None:  # noqa: F811
    index = make_index(clustered(40, 8, 2))
    first = open_lexicon(index)
    wanted = Lexicon.of(index.pois["address"].to_pylist())
    assert first.codes.tolist() == wanted.codes.tolist()
    path = index.path / "lexicon.npz"
    written = path.stat().st_mtime_ns
    assert open_lexicon(index).rows.tolist() == wanted.rows.tolist()
    assert path.stat().st_mtime_ns == written
    whole = path.read_bytes()
    for damaged in (b"no archive", whole[:100], whole[:-30], b""):
        path.write_bytes(damaged)
        assert open_lexicon(index).size == 40
        assert Lexicon.load(path).size == 40
    Lexicon.of(["another", "table"]).save(path)
    assert open_lexicon(index).size == 40


def test_a_name_is_what_stands_before_the_first_comma_of_either_kind() -> None:
    frame = pd.DataFrame({"address": ["药房,x", "药房，x"]})
    found = Candidates(frame["address"].tolist(), np.zeros(2), np.zeros(2), np.zeros(2))
    assert column("name", Query(1, "药房"), found).tolist() == [1.0, 1.0]
