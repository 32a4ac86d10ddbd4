"""BEIR folders: reading, and writing without loss."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from m3gal_cli.data.beir import read_beir, write_beir
from m3gal_cli.data.label_records import LabelOptions, make_records
from m3gal_cli.data.label_splits import SplitRule
from m3gal_cli.data.tables import write_table
from m3gal_cli.errors import InputError
from m3gal_cli.poi_source import read_pois
from tests.helpers.cli import file_contents
from tests.helpers.sample_town import PLACES, place, record, write_lines

EXACT = LabelOptions(0, SplitRule(keep=True))
PLACE_A = {"lng": 24.9, "lat": 60.1, "phone": "1"}
PLACE_B = {"longitude": "24.91", "Latitude": 60.12}
CORPUS = [
    {"_id": "a", "title": "Cafe Alfa", "text": "cafe,Mill Lane 3", "metadata": PLACE_A},
    {"_id": "b", "title": "Bar Beta", "text": "Bar Beta,Mill Lane 5", "metadata": PLACE_B},
    {"_id": "c", "title": "", "text": "School Gamma", "metadata": {"lon": 24.92, "lat": 60.13, "tags": ["x", 1]}},
]
QUERIES = [
    {"_id": "q1", "text": "alfa", "metadata": {"lng": 24.9, "lat": 60.1, "user": 7}},
    {"_id": "q2", "text": "beta", "metadata": {}},
    {"_id": "q3", "text": "beta", "metadata": {}},
    {"_id": "unused", "text": "gamma", "metadata": {}},
]
QRELS = {"train": "q1\ta\t1\nq1\tb\t0\n", "dev": "q2\tb\t2\n", "test": "q3\tb\t1\nq3\tc\t1\n"}


def beir(folder: Path, corpus: list[dict] = CORPUS, queries: list[dict] = QUERIES, qrels: dict = QRELS) -> Path:
    (folder / "qrels").mkdir(parents=True)
    write_lines(folder / "corpus.jsonl", corpus)
    write_lines(folder / "queries.jsonl", queries)
    for split, rows in qrels.items():
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")
    return folder


def test_a_folder_is_read_as_labels_and_pois(tmp_path: Path) -> None:
    labels = read_beir(beir(tmp_path / "in"))
    assert labels.pois is not None
    assert labels.pois["address"].tolist() == ["Cafe Alfa,cafe,Mill Lane 3", "Bar Beta,Mill Lane 5", "School Gamma"]
    assert labels.pois["lng"].tolist() == [24.9, 24.91, 24.92]
    assert labels.pois["lat"].tolist() == [60.1, 60.12, 60.13]
    assert labels.pois["name"].fillna("").tolist() == ["Cafe Alfa", "Bar Beta", ""]
    assert labels.pois["phone"].fillna("").tolist() == ["1", "", ""]
    assert [(q.query_id, q.lng, q.extra) for q in labels.queries][:2] == [("q1", 24.9, {"user": 7}), ("q2", None, {})]
    found = [(labels.queries[x.query].query_id, x.poi_id, x.score, x.split) for x in labels.labels]
    assert found == [
        ("q2", "b", 2, "val"),
        ("q3", "b", 1, "test"),
        ("q3", "c", 1, "test"),
        ("q1", "a", 1, "train"),
        ("q1", "b", 0, "train"),
    ]
    labels.pois.to_parquet(tmp_path / "pois.parquet")


def test_splits_of_the_qrels_are_kept(tmp_path: Path) -> None:
    unequal = [QUERIES[0], QUERIES[1], {"_id": "q3", "text": "gamma", "metadata": {}}]
    made = make_records(beir(tmp_path / "in", queries=unequal), None, read_pois, LabelOptions(1))
    found = {split: [r.query_id for r in rows] for split, rows in made.records.items()}
    assert found == {"train": ["q1"], "val": ["q2"], "test": ["q3"]}
    assert [p.docid for p in made.records["train"][0].negatives] == ["b"]


def test_a_text_in_two_splits_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        make_records(beir(tmp_path / "in"), None, read_pois, EXACT)
    assert "dev.tsv:2: the query is in the split val here and in test in " in str(caught.value)


def test_the_round_trip_is_exact(tmp_path: Path) -> None:
    """Documents, queries (also unused ones) and labels come back; a third folder equals the second byte by byte."""
    queries = [*QUERIES[:2], {"_id": "q3", "text": "gamma 2", "metadata": {}}, QUERIES[3]]
    source = beir(tmp_path / "one", queries=queries)
    for before, after in (("one", "two"), ("two", "three")):
        made = make_records(tmp_path / before, None, read_pois, EXACT)
        write_beir(made.labels, made.pois, made.splits, tmp_path / after)
    first, second, third = (file_contents(tmp_path / name) for name in ("one", "two", "three"))
    assert second == third
    assert {name: sorted(first[name].splitlines()) for name in first if "qrels" in name} == {
        name: sorted(second[name].splitlines()) for name in second if "qrels" in name
    }
    for name in ("corpus.jsonl", "queries.jsonl"):
        rows = [[json.loads(line) for line in one[name].splitlines()] for one in (first, second)]
        assert rows[0] == rows[1]
    assert source.exists()


def test_labels_of_a_table_come_back_from_beir(tmp_path: Path) -> None:
    rows = [(f"p{i}", *place(i), f"name {i}", None if i % 2 else 1.5) for i in range(PLACES)]
    write_table(
        pd.DataFrame(rows, columns=["poi_id", "address", "lng", "lat", "name", "size"]), tmp_path / "pois.parquet"
    )
    lines = ["query,poi_id,label,lng,lat"]
    lines += [f"query {i},p{i},1,24.9,60.1\nquery {i},p{(i + 1) % PLACES},0,24.9,60.1" for i in range(PLACES)]
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    made = make_records(tmp_path / "labels.csv", tmp_path / "pois.parquet", read_pois, LabelOptions(3))
    write_beir(made.labels, made.pois, made.splits, tmp_path / "beir")
    again = make_records(tmp_path / "beir", None, read_pois, LabelOptions(3))
    columns = ["poi_id", "address", "lng", "lat", "name"]
    assert again.pois[columns].equals(made.pois[columns])
    assert list(again.records) == ["train", "val", "test"]
    for split, own in made.records.items():
        first, second = ({r.query: (r.positives, r.lng, r.lat) for r in rows} for rows in (own, again.records[split]))
        assert first == second


def test_candidate_records_become_judged_documents(tmp_path: Path) -> None:
    write_lines(tmp_path / "test_records.jsonl", [record(i) for i in range(6)])
    made = make_records(tmp_path / "test_records.jsonl", None, read_pois, EXACT)
    files = write_beir(made.labels, made.pois, made.splits, tmp_path / "beir")
    assert [path.name for path in files] == ["corpus.jsonl", "queries.jsonl", "test.tsv"]
    rows = (tmp_path / "beir" / "qrels" / "test.tsv").read_text().splitlines()
    assert rows[0] == "query-id\tcorpus-id\tscore"
    assert rows[1:7] == ["1\t0\t1", "1\t1\t0", "1\t4\t0", "1\t7\t0", "1\t10\t0", "1\t13\t0"]
    assert make_records(tmp_path / "beir", None, read_pois, EXACT).records["test"][5].query == record(5)["query"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"corpus": [{"_id": "a", "text": "x"}]}, "corpus.jsonl:1: the document a has no coordinates"),
        ({"corpus": [{"text": "x", "metadata": {"lng": 1, "lat": 2}}]}, "corpus.jsonl:1: the object has no _id"),
        ({"corpus": [CORPUS[0], CORPUS[0]]}, "corpus.jsonl:2: the document a appears twice"),
        ({"corpus": [{"_id": "a", "metadata": {"lng": 1, "lat": 2}}]}, "corpus.jsonl:1: the document a has no text"),
        ({"corpus": [CORPUS[0] | {"metadata": {"lng": 60, "lat": 124}}]}, "corpus.jsonl:1: lng, lat: latitude 124"),
        ({"corpus": [CORPUS[0] | {"metadata": [1]}]}, "corpus.jsonl:1: metadata: expected an object"),
        ({"queries": [QUERIES[0], QUERIES[0]]}, "queries.jsonl:2: the query q1 appears twice"),
        ({"queries": [{"_id": "q1", "text": " "}]}, "queries.jsonl:1: the query q1 has no text"),
        ({"qrels": {"train": "q9\ta\t1\n"}}, "train.tsv:2: no query has the id 'q9'"),
        ({"qrels": {"train": "q1\tz\t1\n"}}, "train.tsv:2: the corpus has no POI with the id 'z'"),
        ({"qrels": {"train": "q1\ta\n"}}, "train.tsv:2: expected query-id, corpus-id and score"),
        ({"qrels": {"train": "q1\ta\tmany\n"}}, "train.tsv:2: score: expected 0 (negative) or a positive number"),
        ({"qrels": {"held": "q1\ta\t1\n"}}, "held.tsv: unknown split 'held'"),
        ({"qrels": {}}, "no labels"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, change: dict, words: str) -> None:
    with pytest.raises(InputError) as caught:
        make_records(beir(tmp_path / "in", **change), None, read_pois, EXACT)
    assert words in str(caught.value)


def test_a_corpus_without_coordinates_takes_them_from_a_poi_table(tmp_path: Path) -> None:
    rows = [("a", "Cafe Alfa", 24.9, 60.1), ("b", "Bar", 24.91, 60.1), ("c", "School", 24.92, 60.1)]
    write_table(pd.DataFrame(rows, columns=["poi_id", "address", "lng", "lat"]), tmp_path / "pois.csv")
    source = beir(tmp_path / "in", [{"_id": "a", "text": "x"}], QUERIES[:1], {"train": QRELS["train"]})
    made = make_records(source, tmp_path / "pois.csv", read_pois, EXACT)
    assert made.records["train"][0].positives[0].text == "Cafe Alfa"


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    made = make_records(beir(tmp_path / "in", qrels={"test": "q1\ta\t1\n"}), None, read_pois, EXACT)
    before = file_contents(tmp_path / "in")
    with pytest.raises(InputError, match="this is not an empty folder"):
        write_beir(made.labels, made.pois, made.splits, tmp_path / "in")
    assert file_contents(tmp_path / "in") == before
    (tmp_path / "empty").mkdir()
    write_beir(made.labels, made.pois, made.splits, tmp_path / "empty")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "in"], "no temporary folder is left"


def test_fractions_are_refused_because_qrels_are_whole_numbers(tmp_path: Path) -> None:
    made = make_records(beir(tmp_path / "in", qrels={"test": "q1\ta\t0.5\n"}), None, read_pois, EXACT)
    with pytest.raises(InputError, match="is not a whole number"):
        write_beir(made.labels, made.pois, made.splits, tmp_path / "out")
    assert not (tmp_path / "out").exists()
