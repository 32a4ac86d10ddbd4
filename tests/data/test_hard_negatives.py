"""Mined candidate sets against brute force, and what must never be a negative."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest

from m3gal_cli.data.hard_negatives import SHARES, TWIN_M, Miner, Pois, by_source, parts_of
from m3gal_cli.text.tfidf import COMMON_LEAST, LexicalIndex, common_rows

RNG = np.random.default_rng(11)
WORDS = ["harbour", "station", "market", "library", "museum", "garden", "bakery", "school"]


def city(n: int = 120) -> Pois:
    names = [f"{WORDS[i % 8]} {i // 8}" for i in range(n)]
    texts = [f"{name}, street {i % 13}, district {i % 3}" for i, name in enumerate(names)]
    brands = [WORDS[i % 8] for i in range(n)]
    return Pois(texts, [t.replace(" ", "") for t in texts], names, brands, RNG.uniform(-3000, 3000, (n, 2)))


def lexical_neighbours(texts: list[str], queries: list[str], k: int) -> list[np.ndarray]:
    return LexicalIndex(texts).nearest(queries, k)


def mine(pois: Pois, queries: list[str], gold: list[int], n: int, seed: int) -> list[list[int]]:
    return [found.rows for found in Miner(pois).mine(queries, gold, n, seed)]


def brute_force(texts: list[str], query: str) -> np.ndarray:
    """tf-idf cosine over character 1-2-grams, written out."""

    def grams(text: str) -> Counter[str]:
        return Counter(text) + Counter(text[i : i + 2] for i in range(len(text) - 1))

    rows = [grams(t) for t in texts]
    found = Counter(g for r in rows for g in r)
    most = common_rows(len(rows))
    idf = {g: math.log((1 + len(rows)) / (1 + n)) + 1 if n <= most else 0.0 for g, n in found.items()}
    asked = {g: n * idf[g] for g, n in grams(query).items() if g in idf}

    def cosine(row: Counter[str]) -> float:
        weights = {g: n * idf[g] for g, n in row.items()}
        dot = sum(w * asked.get(g, 0.0) for g, w in weights.items())
        length = math.sqrt(sum(w * w for w in weights.values()) * sum(w * w for w in asked.values()))
        return dot / length if length else 0.0

    return np.array([cosine(r) for r in rows])


def test_lexical_neighbours_equal_brute_force() -> None:
    texts = list(city(60).texts)
    queries = ["market 3 street 5", "libary 2", "district 1 zoo"]
    found = lexical_neighbours(texts, queries, 10)
    for query, rows in zip(queries, found, strict=True):
        scores = brute_force(texts, query)
        assert scores[rows] == pytest.approx(np.sort(scores)[::-1][:10], abs=1e-5)


def test_common_grams_carry_no_weight() -> None:
    rng = np.random.default_rng(3)
    texts = [f"路{rng.integers(0, 400)}号{'东' if i % 3 else '西'}{rng.integers(0, 9)}" for i in range(1500)]
    assert sum("路" in t for t in texts) > COMMON_LEAST == common_rows(1500)
    queries = ["路17号东3", "399号西", "路", "nothing here"]
    found = lexical_neighbours(texts, queries, 12)
    for query, rows in zip(queries[:2], found[:2], strict=True):
        scores = brute_force(texts, query)
        assert scores[rows] == pytest.approx(np.sort(scores)[::-1][:12], abs=1e-5)
    assert [len(rows) for rows in found[2:]] == [0, 0]  # "路" is too common, and nothing else is shared


def test_ties_go_by_row_number() -> None:
    found = lexical_neighbours(["a b", "x", "a b", "a b"], ["a b"], 2)[0]
    assert found.tolist() == [0, 2]


@pytest.mark.parametrize(("n", "rows"), [(10, 1000), (60_000, 1200), (3_000_000, 5000)])
def test_what_is_common(n: int, rows: int) -> None:
    assert common_rows(n) == rows


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
    assert len(same_brand) >= round(30 * SHARES["kin"])
    away = np.hypot(*(pois.where - pois.where[22]).T)
    assert len(set(np.argsort(away)[1:15]) & set(rows)) >= round(30 * SHARES["near"])
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


def test_a_twin_of_any_gold_row_is_no_negative() -> None:
    names = ["bank", "post", "post", "post"]
    where = np.array([[0.0, 0.0], [5000.0, 0.0], [5000.0 + TWIN_M - 1, 0.0], [5000.0 + TWIN_M + 1, 0.0]])
    texts = ["bank a", "post b", "post c", "post d"]
    miner = Miner(Pois(texts, texts, names, [""] * 4, where))
    assert [sorted(s.rows) for s in miner.mine(["a", "a"], [[0, 1], 0], 39, 1)] == [[3], [1, 2, 3]]


def compound_city() -> Pois:
    """Compounds of ten rows; crossings that have nothing to do with them; a brand of four branches far apart."""
    n = 200
    names = [f"n{i}" for i in range(n)]
    texts = [f"{name} text {i * 7919 % 1000}" for i, name in enumerate(names)]
    brands = ["brand" if i % 50 == 0 else "" for i in range(n)]
    where = np.random.default_rng(5).uniform(-9000, 9000, (n, 2))
    compounds, crossings = [i // 10 for i in range(n)], [i % 20 if i % 2 else -1 for i in range(n)]
    return Pois(texts, texts, names, brands, where, compounds, crossings, [max(i, 1) for i in range(n)])


def test_every_kind_that_hurts_gives_its_share() -> None:
    pois, n = compound_city(), 20
    (found,) = Miner(pois).mine(["n51"], [51], n, seed=2)
    by_kind = {s: [r for r, t in zip(found.rows, found.sources, strict=True) if t == s] for s in set(found.sources)}
    assert len(by_kind["compound"]) == round(n * SHARES["compound"])
    assert {pois.compounds[r] for r in by_kind["compound"]} == {5}
    assert len(by_kind["crossing"]) == round(n * SHARES["crossing"])
    assert {pois.crossings[r] for r in by_kind["crossing"]} == {11}
    (found,) = Miner(pois).mine(["n50"], [50], n, seed=2)
    kin = [r for r, t in zip(found.rows, found.sources, strict=True) if t == "kin"]
    away = np.hypot(*(pois.where - pois.where[50]).T)
    assert sorted(kin) == [0, 100, 150]
    assert "crossing" not in found.sources  # it has none, and -1 is no crossing
    assert away[50] == 0
    assert by_source([found])["lexical"] == max(by_source([found]).values())


def test_group_mates_are_never_negatives() -> None:
    sets = Miner(compound_city()).mine(["n0", "n1"], [0, 1], 198, seed=1)  # 0 and 1 are of one group
    assert 1 not in sets[0].rows
    assert 0 not in sets[1].rows
    assert [len(s.rows) for s in sets] == [198, 198]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "大金(建塘路店),家电,建塘路与杭玻街路口西50米,江干区",
            ("大金(建塘路店)", "大金", "建塘路与杭玻街路口西50", "建塘路与杭玻街路口西"),
        ),
        ("金星路,地名地址信息,道路名,萧山区,萧山区", ("金星路", "", "", "")),
        ("Blue Cat, cafe, Main Street 12 B, Old Town", ("Blue Cat", "", "Main Street 12", "Main Street")),
        ("Kiosk, shop, ７号, East", ("Kiosk", "", "７", "")),
        ("，", ("", "", "", "")),
    ],
)  # fmt: skip
def test_parts_of_a_text(text: str, parts: tuple[str, str, str, str]) -> None:
    assert parts_of(text) == parts
