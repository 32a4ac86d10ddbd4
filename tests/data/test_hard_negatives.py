"""Mined negatives: the share of each source, exclusions, determinism, and the options of ``data geotes``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m3gal_cli.data import hard_negatives
from m3gal_cli.data.geotes import GeotesOptions, build_geotes
from m3gal_cli.data.hard_negatives import SAME_PLACE_M, SHARES, MiningTable, NegativeMiner
from m3gal_cli.data.records import Passage, Record, read_records, write_records
from m3gal_cli.errors import InputError
from m3gal_cli.text.normalise import reading_key
from m3gal_cli.text.tfidf import TfidfIndex

WORDS = ["harbour", "station", "market", "library", "museum", "garden", "bakery", "school"]


def table_of(names: list[str], east: list[float], keys: list[str] | None = None) -> MiningTable:
    """A table with POIs on a line."""
    texts, none = [f"{name} {i}" for i, name in enumerate(names)], [""] * len(names)
    metres = np.array([[x, 0.0] for x in east])
    return MiningTable(texts, keys or texts, names, none, metres, none, none, range(len(names)))


@pytest.fixture(scope="module")
def city() -> MiningTable:
    """120 POIs of eight brands at random places."""
    names = [f"{WORDS[i % 8]} {i // 8}" for i in range(120)]
    texts = [f"{name}, street {i % 13}, district {i % 3}" for i, name in enumerate(names)]
    metres = np.random.default_rng(11).uniform(-3000, 3000, (120, 2))
    keys, brands, none = [t.replace(" ", "") for t in texts], [WORDS[i % 8] for i in range(120)], [""] * 120
    return MiningTable(texts, keys, names, brands, metres, none, none, range(120))


@pytest.fixture(scope="module")
def compounds() -> MiningTable:
    """Compounds of ten rows; crossings independent of them; a brand with four branches far apart; rows 0, 1 a group."""
    n = 200
    names = [f"n{i}" for i in range(n)]
    texts = [f"{name} text {i * 7919 % 1000}" for i, name in enumerate(names)]
    brands = ["brand" if i % 50 == 0 else "" for i in range(n)]
    metres = np.random.default_rng(5).uniform(-9000, 9000, (n, 2))
    compounds, crossings = [i // 10 for i in range(n)], [i % 20 if i % 2 else -1 for i in range(n)]
    return MiningTable(texts, texts, names, brands, metres, compounds, crossings, [max(i, 1) for i in range(n)])


def mine(table: MiningTable, queries: list[str], gold: list[int], n: int, seed: int) -> list[list[int]]:
    return [mined.rows for mined in NegativeMiner(table).mine(queries, gold, n, seed)]


def test_negatives_are_complete_distinct_without_the_gold_and_decided_by_the_seed(city: MiningTable) -> None:
    gold = [0, 17, 119]
    once, again, other = (mine(city, [city.texts[g] for g in gold], gold, 39, seed) for seed in (1, 1, 2))
    for g, rows in zip(gold, once, strict=True):
        assert len(rows) == len(set(rows)) == 39
        assert g not in rows
    assert once == again
    assert once != other


def test_brand_distance_and_text_each_give_their_share(city: MiningTable) -> None:
    (rows,) = mine(city, ["bakery 2"], [22], 30, seed=1)
    assert len([r for r in rows if city.brands[r] == "bakery"]) >= round(30 * SHARES["brand"])
    distances = np.hypot(*(city.metres - city.metres[22]).T)
    assert len(set(np.argsort(distances)[1:15]) & set(rows)) >= round(30 * SHARES["near"])
    assert len(set(TfidfIndex(city.texts).nearest(["bakery 2"], 12)[0]) & set(rows)) >= 10


def test_compound_and_crossing_each_give_their_share(compounds: MiningTable) -> None:
    n = 20
    (mined,) = NegativeMiner(compounds).mine(["n51"], [51], n, seed=2)
    by_source = {s: [r for r, t in zip(mined.rows, mined.sources, strict=True) if t == s] for s in set(mined.sources)}
    assert len(by_source["compound"]) == round(n * SHARES["compound"])
    assert {compounds.compounds[r] for r in by_source["compound"]} == {5}
    assert len(by_source["crossing"]) == round(n * SHARES["crossing"])
    assert {compounds.crossings[r] for r in by_source["crossing"]} == {11}


def test_a_source_without_rows_is_filled_up_by_others(compounds: MiningTable) -> None:
    (mined,) = NegativeMiner(compounds).mine(["n50"], [50], 20, seed=2)
    brand = [r for r, t in zip(mined.rows, mined.sources, strict=True) if t == "brand"]
    assert sorted(brand) == [0, 100, 150]
    assert "crossing" not in mined.sources  # the gold has no crossing
    counts = hard_negatives.count_by_source([mined])
    assert counts["lexical"] == max(counts.values())
    assert sum(counts.values()) == 20


@pytest.mark.parametrize("first", [1, 7, 59, 60, 61])
def test_the_nearest_rows_come_in_the_order_of_a_stable_sort(first: int) -> None:
    """Rows on a coarse grid have many equal distances."""
    metres = np.random.default_rng(first).integers(0, 4, (90, 2)).astype(float)
    none = [""] * 90
    table = MiningTable([f"shop {i}" for i in range(90)], none, none, none, metres, none, none, range(90))
    rows = np.sort(np.random.default_rng(0).permutation(90)[:60])
    distances = np.hypot(*(metres[rows] - metres[3]).T)
    wanted = rows[np.argsort(distances, kind="stable")].tolist()
    miner = NegativeMiner(table)
    assert list(miner._nearest_first(rows, 3, first)) == wanted
    assert list(miner._nearest_first(rows[:0], 3, first)) == []


@pytest.mark.parametrize(
    ("table", "gold", "negatives"),
    [
        (
            table_of(["lot", "lot", "lot", "kiosk", "post"], [0, 500, 900, 50, 80], list("wwwen")),
            0,
            [3, 4],
        ),  # equal keys
        (table_of(["bank"] * 3, [0, SAME_PLACE_M - 1, SAME_PLACE_M + 1]), 0, [2]),  # equal names
        (table_of(["bank", *["post"] * 3], [0, 5000, 5001, 5000 + SAME_PLACE_M + 1]), [0, 1], [3]),  # of any gold row
    ],
)
def test_a_row_that_may_be_the_gold_is_never_a_negative(table: MiningTable, gold: int, negatives: list[int]) -> None:
    assert sorted(mine(table, ["bank post"], [gold], 39, 1)[0]) == negatives


def test_rows_of_one_group_are_never_negatives_of_each_other(compounds: MiningTable) -> None:
    mined = NegativeMiner(compounds).mine(["n0", "n1"], [0, 1], 198, seed=1)
    assert 1 not in mined[0].rows
    assert 0 not in mined[1].rows
    assert [len(m.rows) for m in mined] == [198, 198]


KINDS = ["茶馆", "药店", "书店", "停车场", "小学"]
OWN = Passage("别处", 121.0, 31.0)


def passages(n: int = 80) -> list[Passage]:
    texts = [f"{'东西南北'[i % 4]}山{i // 8}号{KINDS[i % 5]}(一店),服务,山路{i // 4}号,区" for i in range(n)]
    return [Passage(text, 120.0 + i / 500, 30.0 + i % 9 / 90) for i, text in enumerate(texts)]


def records(rows: list[Passage], first: int = 0) -> list[Record]:
    return [Record(f"东山{KINDS[i % 5]}", [rows[i]], [OWN], f"q{i}") for i in range(first, first + 10)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GeoTES folder with a train and a dev split and a POI table; not to be changed."""
    folder = tmp_path_factory.mktemp("geotes")
    rows = passages()
    named = [Passage(p.text, p.lng, p.lat, f"d{i}") for i, p in enumerate(rows)]
    write_records([Record("东山茶馆", [named[0]], named[1:60]), *records(named)], folder / "train_dataset.jsonl")
    write_records(records(rows, 20), folder / "dev_dataset.jsonl")
    lines = [f'"{p.text}",{p.lng},{p.lat}' for p in rows]
    (folder / "poi_database.csv").write_text("\n".join(["address,lng,lat", *lines]) + "\n", encoding="utf-8")
    return folder


def converted(source: Path, out: Path, options: GeotesOptions, name: str) -> list[Record]:
    build_geotes(source, out, options)
    return read_records(out / name)


def test_mined_negatives_exclude_every_text_of_a_positive() -> None:
    rows = passages()
    elsewhere = Passage(rows[0].text, 120.4, 30.1)
    miner = hard_negatives.RecordNegativeMiner([*rows, rows[0], elsewhere])
    assert len(miner) == 81
    record = Record("东山茶馆", [rows[0], rows[7]], [], "q")
    (new,), (mined,) = miner.mine([record], 20, seed=1)
    assert new.positives == record.positives
    assert len(new.negatives) == len(mined.rows) == 20
    assert not {reading_key(p.text) for p in new.negatives} & {reading_key(p.text) for p in record.positives}
    assert {p.key for p in new.negatives} <= {p.key for p in rows}


def test_only_the_chosen_splits_are_mined(source: Path, tmp_path: Path) -> None:
    """Mined passages keep the docids of the records."""
    name = "val_dataset_use_gis_1000.jsonl"
    dev = converted(source, tmp_path / "a", GeotesOptions(negatives=12, mine=True), name)
    assert [r.negatives for r in dev] == [[OWN]] * 10
    train = read_records(tmp_path / "a" / "train_dataset_use_gis.jsonl")
    assert [len(r.negatives) for r in train] == [12] * 11
    docids = {p.key: p.docid for r in read_records(source / "train_dataset.jsonl") for p in r.passages}
    mined = [p for r in train for p in r.negatives]
    assert sum(p.key in docids for p in mined) > 80
    assert all(p.docid == docids.get(p.key) for p in mined)
    dev = converted(source, tmp_path / "b", GeotesOptions(mine=True, mined=("train", "dev")), name)
    assert [len(r.negatives) for r in dev] == [39] * 10


def test_without_mining_the_first_negatives_are_kept(source: Path, tmp_path: Path) -> None:
    first = converted(source, tmp_path, GeotesOptions(negatives=3), "train_dataset_use_gis.jsonl")[0]
    assert first.negatives == read_records(source / "train_dataset.jsonl")[0].negatives[:3]


def test_mined_passages_are_converted_from_the_datum_and_their_sources_noted(source: Path, tmp_path: Path) -> None:
    notes = build_geotes(source, tmp_path, GeotesOptions(datum="gcj02", mine=True, negatives=5)).notes
    train = read_records(tmp_path / "train_dataset_use_gis.jsonl")
    lng = {p.text: p.lng for r in train for p in r.passages}
    assert all(abs(lng[p.text] - p.lng) > 1e-3 for p in passages() if p.text in lng)  # about 400 m
    assert any(note.startswith("train: negatives mined from 81 POIs") for note in notes)
    assert any(note.startswith("dev: own negatives of the records") for note in notes)


def test_negatives_below_1_are_refused() -> None:
    with pytest.raises(InputError, match="--negatives must be at least 1, got 0"):
        GeotesOptions(negatives=0).check()


def test_a_single_file_is_mined_from_its_own_passages(tmp_path: Path) -> None:
    rows = passages(30)
    path = tmp_path / "own.jsonl"
    write_records([Record("东山茶馆", [rows[i]], rows[i + 1 : i + 9]) for i in range(20)], path)
    imported = converted(path, tmp_path / "o", GeotesOptions(mine=True, negatives=6), "own.jsonl")
    assert [len(r.negatives) for r in imported] == [6] * 20
