"""Negatives mined anew: what stays, what comes, what never comes, and the command that does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from m3gal_cli.data.geotes import GeotesOptions, build_geotes
from m3gal_cli.data.record_negatives import Reminer
from m3gal_cli.data.records import Passage, Record, read_records, write_records
from m3gal_cli.errors import InputError
from m3gal_cli.text.normalise import reads
from tests.helpers.cli import m3gal

KINDS = ["茶馆", "药店", "书店", "停车场", "小学"]


def passages(n: int = 80) -> list[Passage]:
    texts = [f"{'东西南北'[i % 4]}山{i // 8}号{KINDS[i % 5]}(一店),服务,山路{i // 4}号,区" for i in range(n)]
    return [Passage(text, 120.0 + i / 500, 30.0 + i % 9 / 90) for i, text in enumerate(texts)]


def records(rows: list[Passage], first: int = 0) -> list[Record]:
    own = [Passage("别处", 121.0, 31.0)]
    return [Record(f"东山{KINDS[i % 5]}", [rows[i]], own, f"q{i}") for i in range(first, first + 10)]


def source(folder: Path) -> Path:
    folder.mkdir()
    rows = passages()
    write_records(records(rows), folder / "train_dataset.jsonl")
    write_records(records(rows, 20), folder / "dev_dataset.jsonl")
    lines = [f'"{p.text}",{p.lng},{p.lat}' for p in rows]
    (folder / "poi_database.csv").write_text("\n".join(["address,lng,lat", *lines]) + "\n", encoding="utf-8")
    return folder


def test_the_positive_stays_and_never_comes_as_a_negative() -> None:
    rows = passages()
    twin = Passage(rows[0].text, 120.4, 30.1)  # elsewhere, with the same text
    miner = Reminer([*rows, rows[0], twin])
    assert len(miner) == 81
    asked = [Record("东山茶馆", [rows[0], rows[7]], [], "q")]
    (found,), (mined,) = miner.mine(asked, 20, seed=1)
    assert found.positives == asked[0].positives
    assert len(found.negatives) == len(mined.rows) == 20
    assert not {reads(p.text) for p in found.negatives} & {reads(rows[0].text), reads(rows[7].text)}
    assert {p.key for p in found.negatives} <= {p.key for p in rows}


def test_mined_passages_keep_the_ids_that_the_records_have(tmp_path: Path) -> None:
    named = [Passage(p.text, p.lng, p.lat, f"d{i}") for i, p in enumerate(passages())]
    folder = source(tmp_path / "s")
    write_records([Record("东山茶馆", [named[0]], named[1:60]), *records(named)], folder / "train_dataset.jsonl")
    build_geotes(folder, tmp_path / "a", GeotesOptions(mine=True))
    known = {p.key: p.docid for p in named[:60]}
    mined = [p for r in read_records(tmp_path / "a" / "train_dataset_use_gis.jsonl") for p in r.negatives]
    assert sum(p.key in known for p in mined) > 100
    assert all(p.docid == known.get(p.key) for p in mined)


def test_mined_sets_follow_from_the_seed() -> None:
    miner, asked = Reminer(passages()), records(passages())
    once, again, other = (miner.mine(asked, 15, seed)[0] for seed in (1, 1, 2))
    assert once == again
    assert once != other


def test_only_train_is_mined_unless_all_is_said(tmp_path: Path) -> None:
    build_geotes(source(tmp_path / "s"), tmp_path / "a", GeotesOptions(negatives=12, mine=True))
    train = read_records(tmp_path / "a" / "train_dataset_use_gis.jsonl")
    dev = read_records(tmp_path / "a" / "val_dataset_use_gis_1000.jsonl")
    assert [len(r.negatives) for r in train] == [12] * 10
    assert [[p.text for p in r.negatives] for r in dev] == [["别处"]] * 10
    options = GeotesOptions(mine=True, mined=("train", "dev"))
    build_geotes(tmp_path / "s", tmp_path / "b", options)
    dev = read_records(tmp_path / "b" / "val_dataset_use_gis_1000.jsonl")
    assert [len(r.negatives) for r in dev] == [39] * 10


def test_without_mining_the_first_negatives_are_taken(tmp_path: Path) -> None:
    rows = passages()
    folder = tmp_path / "s"
    folder.mkdir()
    write_records([Record("q", [rows[0]], rows[1:9])], folder / "train_dataset.jsonl")
    build_geotes(folder, tmp_path / "a", GeotesOptions(negatives=3))
    (record,) = read_records(tmp_path / "a" / "train_dataset_use_gis.jsonl")
    assert [p.text for p in record.negatives] == [p.text for p in rows[1:4]]


def test_mined_passages_are_converted_from_the_datum(tmp_path: Path) -> None:
    build_geotes(source(tmp_path / "s"), tmp_path / "a", GeotesOptions(datum="gcj02", mine=True, negatives=5))
    known = {p.text: p for r in read_records(tmp_path / "a" / "train_dataset_use_gis.jsonl") for p in r.passages}
    assert all(abs(known[p.text].lng - p.lng) > 1e-3 for p in passages() if p.text in known)  # some 400 m


def test_command(tmp_path: Path) -> None:
    source(tmp_path / "s")
    done = m3gal(
        "data", "geotes", str(tmp_path / "s"), "-o", str(tmp_path / "o"), "--mine", "--negatives", "9", "--json"
    )
    assert done.code == 0, done.err
    notes = done.json()["notes"]
    assert any(note.startswith("train: negatives mined from 81 POIs") for note in notes)
    assert any("dev: the records' own negatives" in note for note in notes)
    refused = m3gal("data", "geotes", str(tmp_path / "s"), "-o", str(tmp_path / "p"), "--mine", "--negatives", "0")
    assert refused.code == 2
    assert "negatives must be at least 1" in refused.err
    assert not (tmp_path / "p").exists()


def test_a_single_file_is_mined_from_its_own_passages(tmp_path: Path) -> None:
    rows = passages(30)
    path = tmp_path / "own.jsonl"
    write_records([Record("东山茶馆", [rows[i]], rows[i + 1 : i + 9]) for i in range(20)], path)
    build_geotes(path, tmp_path / "o", GeotesOptions(mine=True, negatives=6))
    assert [len(r.negatives) for r in read_records(tmp_path / "o" / "own.jsonl")] == [6] * 20


def test_a_seed_below_zero_is_refused() -> None:
    with pytest.raises(InputError, match="seed"):
        GeotesOptions(seed=-1).check()
