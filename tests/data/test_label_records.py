"""Records from labels: gold, negatives, files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.config.paths import find_pois, find_records
from m3gal_cli.config.schema import DataConfig
from m3gal_cli.data.duplicates import place_key
from m3gal_cli.data.label_records import LabelOptions, LabelRecords, make_records, write_bad, write_data
from m3gal_cli.data.label_splits import SplitRule
from m3gal_cli.data.records import Record, read_records, write_records
from m3gal_cli.data.tables import write_table
from m3gal_cli.errors import InputError
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.poi_source import read_pois

PLACES = 60


@pytest.fixture
def pois(tmp_path: Path) -> Path:
    """A table of 60 POIs; number 59 equals number 0 in text and place."""
    rows = [(f"p{i}", f"cafe {i},cafe,mill lane {i}", 24.9 + i / 500, 60.1 + i % 7 / 500) for i in range(PLACES - 1)]
    rows.append(("p59", *rows[0][1:]))
    path = tmp_path / "pois.csv"
    write_table(pd.DataFrame(rows, columns=["poi_id", "address", "lng", "lat"]), path)
    return path


def labels(folder: Path, *rows: str, header: str = "query,poi_id,label") -> Path:
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def made(source: Path, pois: Path | None, **options: object) -> LabelRecords:
    return make_records(source, pois, read_pois, LabelOptions(**options))  # type: ignore[arg-type]


def records(result: LabelRecords) -> dict[str, Record]:
    return {r.query: r for rows in result.records.values() for r in rows}


def ids(record: Record) -> tuple[list[str | None], list[str | None]]:
    return [p.docid for p in record.positives], [p.docid for p in record.negatives]


def test_labelled_negatives_come_first_and_mined_ones_fill_up(tmp_path: Path, pois: Path) -> None:
    source = labels(tmp_path, "first,p1,1", "first,p2,1", "first,p40,0", "first,p30,0", "second,p3,1")
    own = records(made(source, pois, negatives=10))
    gold, negatives = ids(own["first"])
    assert gold == ["p1", "p2"]
    assert negatives[:2] == ["p40", "p30"]
    assert len(set(negatives)) == len(negatives) == 10
    assert not {"p1", "p2"} & set(negatives)
    assert len(own["second"].negatives) == 10
    without = made(source, pois, negatives=0)
    assert ids(records(without)["first"]) == (["p1", "p2"], ["p40", "p30"])
    assert without.summary.negatives == {"labelled": 2}


def test_more_labelled_negatives_than_asked_for_are_kept(tmp_path: Path, pois: Path) -> None:
    source = labels(tmp_path, "a,p1,1", *(f"a,p{i},0" for i in range(2, 9)))
    assert ids(records(made(source, pois, negatives=3))["a"])[1] == [f"p{i}" for i in range(2, 9)]


def test_duplicates_of_the_gold_are_gold_and_never_negatives(tmp_path: Path, pois: Path) -> None:
    source = labels(tmp_path, "a,p0,1", "a,p59,1", "b,p59,1", "b,p0,0", "b,p5,0")
    result = made(source, pois, negatives=PLACES)
    table = read_pois(pois)
    key = place_key(*table.loc[0, ["address", "lng", "lat"]])
    for record in records(result).values():
        assert record.gold == {key}
        assert len(record.positives) == 1
        assert key not in {p.key for p in record.negatives}
    assert result.summary.duplicates == 1
    assert result.summary.positives == {1: 2}
    assert "labels.csv: 1 negatives equal a gold POI in text and place: they count as gold" in result.summary.notes


def test_the_gold_of_a_query_that_reads_the_same_is_no_negative(tmp_path: Path, pois: Path) -> None:
    rows = ["Mill-Lane,p1,1,,", "mill lane,p2,1,,", "mill lane,p3,1,24.9,60.1", "mill lane,p4,1,24.8,60.1"]
    source = labels(tmp_path, *rows, header="query,poi_id,label,lng,lat")
    result = made(source, pois, negatives=PLACES)
    gold_of = {ids(r)[0][0]: set(ids(r)[1]) for rows in result.records.values() for r in rows}
    assert not gold_of["p1"] & {"p1", "p2"}
    assert not gold_of["p2"] & {"p1", "p2"}
    assert "p4" in gold_of["p3"], "the same text at another location means another POI"
    assert "p3" in gold_of["p4"]


def test_queries_without_gold_are_left_out_with_a_note(tmp_path: Path, pois: Path) -> None:
    result = made(labels(tmp_path, "a,p1,0", "b,p2,1"), pois)
    assert list(records(result)) == ["b"]
    assert "labels.csv: 1 queries have no gold POI and are left out" in result.summary.notes
    with pytest.raises(InputError, match="no query has a gold POI"):
        made(labels(tmp_path, "a,p1,0"), pois)


def test_records_are_equal_in_every_call(tmp_path: Path, pois: Path) -> None:
    source = labels(tmp_path, *(f"cafe mill {i},p{i},1" for i in range(50)))
    assert made(source, pois).records == made(source, pois).records
    other = made(source, pois, rule=SplitRule(seed=5))
    assert other.records != made(source, pois).records


def test_trainings_find_the_files_and_no_query_is_in_two_splits(tmp_path: Path, pois: Path) -> None:
    source = labels(tmp_path, *(f"cafe mill {i // 2},p{i},1" for i in range(58)))
    result = made(source, pois)
    out = tmp_path / "out"
    for suffix in (None, "shop"):
        write_data(result, out, suffix, [source, pois])
        data = DataConfig(dir=str(out), suffix=suffix)
        found = {split: read_records(find_records(data, split) or Path()) for split in ("train", "val", "test")}
        assert found == result.records
        texts = [r.query for rows in found.values() for r in rows]
        assert len(texts) == len(set(texts)) == 29
        table = read_pois(find_pois(data) or Path())
        assert table["poi_id"].tolist() == [f"p{i}" for i in range(PLACES)]
        keys = {place_key(*row) for row in table[["address", "lng", "lat"]].itertuples(index=False)}
        assert all(r.gold <= keys for rows in found.values() for r in rows)
    only_train = made(source, pois, rule=SplitRule(0.0, 0.0))
    write_data(only_train, out, None)
    assert find_records(DataConfig(dir=str(out)), "test") is None, "the test records of other labels are deleted"


def test_place_keys_of_records_are_those_of_the_table(tmp_path: Path) -> None:
    """Rounding to 7 decimals and then to 6 differs from rounding to 6 for every twentieth coordinate that ends on 5."""
    rng = random.Random(0)
    rows = [(i, f"cafe {i}", 24 + round(rng.random(), 6) + 4.9999e-7, 60.1) for i in range(200)]
    table = pd.DataFrame(rows, columns=["poi_id", "address", "lng", "lat"])
    path = tmp_path / "pois.csv"
    write_table(table, path)
    result = made(labels(tmp_path, *(f"cafe {i},{i},1" for i in range(200))), path, negatives=0)
    write_data(result, tmp_path / "out", None)
    keys = {place_key(*row) for row in table[["address", "lng", "lat"]].itertuples(index=False)}
    for split, own in result.records.items():
        assert {key for r in own for key in r.gold} <= keys
        stored = read_records(tmp_path / "out" / f"{split}_dataset_use_gis.jsonl")
        assert [r.gold for r in stored] == [r.gold for r in own]


def test_bad_rows_are_listed_and_nothing_else_is_lost(tmp_path: Path, pois: Path) -> None:
    source = labels(tmp_path, "a,p1,1", "b,gone,1", ",p3,1", "c,p4,1")
    with pytest.raises(InputError, match="2 rows are invalid"):
        made(source, pois)
    result = made(source, pois, skip_bad=True)
    assert sorted(records(result)) == ["a", "c"]
    write_bad(result, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "labels.bad.jsonl").read_text().splitlines()]
    assert [row["where"] for row in rows] == [f"{source}:4: query", f"{source}:3"]
    assert rows[1]["row"] == {"query": "b", "poi_id": "gone", "label": "1"}
    assert result.summary.notes[-1].startswith("labels.csv: 2 of 4 rows are invalid and left out; see ")


def test_the_output_never_replaces_the_input(tmp_path: Path, pois: Path) -> None:
    table = tmp_path / "out" / "poi_database.csv"
    table.parent.mkdir()
    table.write_bytes(pois.read_bytes())
    with pytest.raises(InputError, match="would overwrite the input"):
        write_data(made(labels(tmp_path, "a,p1,1"), table), table.parent, None, [table])
    assert table.read_bytes() == pois.read_bytes()
    assert [p.name for p in table.parent.iterdir()] == ["poi_database.csv"]


def test_candidate_records_are_labels_too(tmp_path: Path, pois: Path) -> None:
    source = labels(
        tmp_path, *(f"cafe mill {i},p{i},1" for i in range(8)), *(f"cafe mill {i},p{i + 9},0" for i in range(8))
    )
    first = made(source, pois, negatives=4, rule=SplitRule(0.0, 0.0))
    path = tmp_path / "test_x.jsonl"
    write_records(first.records["train"], path)
    again = made(path, None, negatives=0)
    assert list(again.records) == ["test"], "the split is that of the file name"
    assert again.records["test"] == first.records["train"]


def test_query_locations_far_from_their_pois_are_said(tmp_path: Path, pois: Path) -> None:
    header, rows = "query,poi_id,lat,lng", [f"cafe {i},p{i},60.1,24.9" for i in range(9)]
    assert not any("km from" in note for note in made(labels(tmp_path, *rows, header=header), pois).summary.notes)
    result = made(labels(tmp_path, *rows, header="query,poi_id,lng,lat"), pois)
    (note,) = [note for note in result.summary.notes if "km from" in note]
    distance = haversine_m(60.1, 24.9, 24.9 + 4 / 500, 60.1 + 4 / 500) / 1000  # p4
    assert abs(float(note.split(" are ")[1].split(" km")[0].replace(",", "")) - distance) < 2
    assert note.endswith("are lng and lat swapped?")


def test_labels_of_another_table_are_refused_with_an_id_of_each(tmp_path: Path, pois: Path) -> None:
    with pytest.raises(
        InputError, match=r"has none of the 2 ids; they are such as 'n1', those of pois.csv such as 'p0'"
    ):
        made(labels(tmp_path, "a,n1,1", "b,n2,1"), pois, skip_bad=True)
