"""Mined candidate sets against brute force, and what must never be a negative."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from m3gal_cli.data.candidates import TWIN_M, Pois, lexical_neighbours, mine

RNG = np.random.default_rng(11)
WORDS = ["harbour", "station", "market", "library", "museum", "garden", "bakery", "school"]


def city(n: int = 120) -> Pois:
    names = [f"{WORDS[i % 8]} {i // 8}" for i in range(n)]
    texts = [f"{name}, street {i % 13}, district {i % 3}" for i, name in enumerate(names)]
    brands = [WORDS[i % 8] for i in range(n)]
    return Pois(texts, [t.replace(" ", "") for t in texts], names, brands, RNG.uniform(-3000, 3000, (n, 2)))


def brute_force(texts: list[str], query: str) -> np.ndarray:
    """tf-idf cosine over character 1-2-grams, written out."""

    def grams(text: str) -> Counter[str]:
        return Counter(text) + Counter(text[i : i + 2] for i in range(len(text) - 1))

    rows = [grams(t) for t in texts]
    idf = {g: math.log((1 + len(rows)) / (1 + sum(g in r for r in rows))) + 1 for r in rows for g in r}
    asked = {g: n * idf[g] for g, n in grams(query).items() if g in idf}

    def cosine(row: Counter[str]) -> float:
        weights = {g: n * idf[g] for g, n in row.items()}
        dot = sum(w * asked.get(g, 0.0) for g, w in weights.items())
        return dot / math.sqrt(sum(w * w for w in weights.values()) * sum(w * w for w in asked.values()))

    return np.array([cosine(r) for r in rows])


def test_lexical_neighbours_equal_brute_force() -> None:
    texts = list(city(60).texts)
    queries = ["market 3 street 5", "libary 2", "district 1 zoo"]
    found = lexical_neighbours(texts, queries, 10)
    for query, rows in zip(queries, found, strict=True):
        scores = brute_force(texts, query)
        assert scores[rows] == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-5)


def test_sets_are_full_distinct_and_without_the_gold() -> None:
    pois = city()
    gold = [0, 17, 119]
    sets = mine(pois, [pois.texts[g] for g in gold], gold, 39, seed=5)
    for g, rows in zip(gold, sets, strict=True):
        assert len(rows) == len(set(rows)) == 39
        assert g not in rows


def test_same_seed_same_sets_other_seed_other_order() -> None:
    pois = city()
    once, again, other = (mine(pois, ["market 3"], [3], 20, seed) for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_namesakes_neighbours_and_look_alikes_are_all_there() -> None:
    pois = city()
    (rows,) = mine(pois, ["bakery 2"], [22], 30, seed=1)
    same_brand = [r for r in rows if pois.brands[r] == "bakery"]
    assert len(same_brand) >= 9
    away = np.hypot(*(pois.where - pois.where[22]).T)
    assert len(set(np.argsort(away)[1:15]) & set(rows)) >= 7
    assert len(set(lexical_neighbours(pois.texts, ["bakery 2"], 12)[0]) & set(rows)) >= 10


def test_what_reads_the_same_is_never_a_negative() -> None:
    texts = ["Car park, West", "Car park, West", "Car Park West", "Kiosk, East", "Post, North"]
    reads = ["carparkwest", "carparkwest", "carparkwest", "kioskeast", "postnorth"]
    where = np.array([[0.0, 0.0], [500.0, 0.0], [0.0, 900.0], [50.0, 0.0], [80.0, 0.0]])
    pois = Pois(texts, reads, ["carpark", "carpark", "carpark", "kiosk", "post"], [""] * 5, where)
    assert sorted(mine(pois, ["car park west"], [0], 39, 1)[0]) == [3, 4]


def test_a_namesake_at_hand_is_a_twin_and_one_farther_off_a_negative() -> None:
    names = ["bank", "bank", "bank"]
    where = np.array([[0.0, 0.0], [TWIN_M - 1, 0.0], [TWIN_M + 1, 0.0]])
    pois = Pois(["bank a", "bank b", "bank c"], ["banka", "bankb", "bankc"], names, [""] * 3, where)
    assert mine(pois, ["bank"], [0], 39, 1) == [[2]]
