"""The sets of the board, from made-up files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pandas as pd
import pytest
from quality import sets
from quality.folds import Dataset

from m3gal_cli.errors import InputError
from tests.helpers.sample_town import write_csv

POIS = [["1", "Alma Cafe, Mill Lane", 24.0, 60.0], ["2", "Alma Cafe, Mill Lane", 24.0, 60.0], ["7", "Zoo", 24.1, 60.1]]


def test_a_query_with_several_labels_is_one_query_and_duplicates_are_one_poi(tmp_path: Path) -> None:
    write_csv(tmp_path / "poi.csv", ["poi_id", "address", "lng", "lat"], POIS)
    write_csv(tmp_path / "labels.csv", ["query", "poi_id"], [["alma", "2"], ["the zoo", "7"], ["alma", "7"]])
    labelled = sets.name_pairs_set("town", tmp_path)
    assert [record.query for record in labelled.records] == ["alma", "the zoo"]
    assert labelled.pois["address"].tolist() == ["Alma Cafe, Mill Lane", "Zoo"]
    assert labelled.evaluation.gold.tolist() == [[True, True], [False, True]]
    assert {(record.lng, record.lat) for record in labelled.records} == {(None, None)}


def test_queries_without_an_exact_candidate_are_left_out(tmp_path: Path) -> None:
    rows = [("a", [("x", "partial"), ("y", "exact"), ("z", "exact")]), ("b", [("x", "none")]), ("c", [("y", "exact")])]
    lines = [{"query": q, "candidates": [{"text": t, "label": grade} for t, grade in own]} for q, own in rows]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    labelled = sets.address_pairs_set(path)
    assert labelled.among_candidates
    assert [record.query for record in labelled.records] == ["a", "c"]
    assert sorted(labelled.pois["address"]) == ["x", "y", "z"]
    assert labelled.pois.groupby(["lng", "lat"]).ngroups == 1
    scores = np.array([[{"x": 2.0, "y": 1.0, "z": 0.5}[text] for text in labelled.pois["address"]]] * 2)
    assert labelled.evaluation.candidate_ranks(scores).tolist() == [2, 1]  # x is no candidate of c


def test_the_geotes_set_has_all_queries_and_distinct_pois(geotes: Path) -> None:
    labelled = sets.geotes_set(Dataset(geotes))
    assert (len(labelled.records), len(labelled.pois)) == (40, 32)  # the table holds one POI twice
    assert labelled.evaluation.gold.any(axis=1).all()
    assert len(labelled.evaluation.texts) == 32  # every candidate is a POI of the table


def named_pois(count: int = 30) -> pd.DataFrame:
    names = [f"Cafe Number {i}" for i in range(count)] + ["Twin Hotel", "twin hotel!", "Abc", "Streetless Bar"]
    streets = [f"Street {i}" for i in range(count)] + ["A", "B", "C", ""]
    rows = {"poi_id": [f"n{i}" for i in range(len(names))], "name": names, "street": streets}
    return pd.DataFrame(rows | {"address": names, "lng": 24.0, "lat": np.arange(len(names)) / 1000})


def test_changed_names_are_of_the_same_pois_and_are_reproducible() -> None:
    pois = named_pois()
    made = {kind: sets.names_set(kind, pois, change) for kind, change in sets.PERTURBED_NAMES.items()}
    gold = {kind: [record.positives[0].docid for record in own.records] for kind, own in made.items()}
    assert len({tuple(ids) for ids in gold.values()}) == 1
    assert set(gold["exact"]) == {f"n{i}" for i in range(30)}  # the others: not unique, too short, without street
    assert all(record.query == record.positives[0].text for record in made["exact"].records)
    again = sets.names_set("one edit", pois, sets.PERTURBED_NAMES["one edit"])
    assert again.records == made["one edit"].records
    assert again.fingerprint == made["one edit"].fingerprint != made["two edits"].fingerprint


@pytest.mark.parametrize(
    ("kind", "query"), [("exact", "Café Ekberg"), ("prefix", "Café Ek"), ("name + street", None), ("one edit", None)]
)
def test_each_kind_changes_the_name_as_it_says(kind: str, query: str | None) -> None:
    made = sets.PERTURBED_NAMES[kind]("Café Ekberg", "Bulevardi", random.Random(3))
    assert made == query if query else made not in ("Café Ekberg", "Café Ekberg Bulevardi")


def one_edit_texts(text: str) -> set[str]:
    """Return all texts that one insertion, replacement, deletion or swap makes of a text."""
    places = range(len(text) + 1)
    out = {text[:i] + c + text[i + cut :] for i in places for c in ascii_lowercase for cut in (0, 1)}
    out |= {text[:i] + text[i + 1 :] for i in places} | {
        text[:i] + text[i + 1 : i + 2] + text[i : i + 1] + text[i + 2 :] for i in places
    }
    return out - {text, ""}


def test_an_edit_always_makes_one_typing_error() -> None:
    for text in ("a", "aa", "Café Ekberg", "东村"):
        made = {sets.edit(text, random.Random(number)) for number in range(300)}
        assert made <= one_edit_texts(text)
        assert len(made) > 1


def test_unknown_sets_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no set 'nowhere'"):
        sets.load_sets(["nowhere"], tmp_path, tmp_path)
    assert set(sets.set_names()) >= {"geotes", "pittsburgh", "address_pairs", "helsinki views", "helsinki prefix"}
