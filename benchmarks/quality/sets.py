"""The labelled sets of the board: queries of several styles, sources and languages, each with its POI table.

========================== =============================================================================================
geotes                     800 Chinese queries with their locations (``folds``)
pittsburgh, edinburgh      names of one provider, POIs of another; no query location
address_pairs              Chinese addresses; each query has its own candidates, without coordinates
helsinki views             held-out test queries of ``m3gal data osm`` on the sample city
helsinki exact, one edit … 200 names of the sample city as ``PERTURBED_NAMES`` changes them; no query location
========================== =============================================================================================

A query that several POIs are labelled with is one query with several gold POIs. Of equal POIs the table has the first.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase

import pandas as pd

from m3gal_cli.data.duplicates import distinct_pois
from m3gal_cli.data.poi_reader import read_pois
from m3gal_cli.data.records import Passage, Record, read_records
from m3gal_cli.data.sample import copy_sample
from m3gal_cli.errors import InputError
from m3gal_cli.text.normalise import reading_key
from m3gal_cli.text.perturbations import prefix
from quality.evaluation_set import EvaluationSet
from quality.folds import Dataset
from quality.interface import short_hash
from quality.m3gal_methods import m3gal

GEOTES, ADDRESS_PAIRS, HELSINKI_VIEWS = "geotes", "address_pairs", "helsinki views"
NAME_PAIRS = ("pittsburgh", "edinburgh")
NAMES, NAMES_SEED, SHORTEST_NAME = 200, 2023, 5
NO_PLACE = (0.0, 0.0)  # the location of all candidates of address_pairs


@dataclass(frozen=True)
class LabelledSet:
    """Labelled queries and the POIs that they are matched to.

    Attributes:
        name: Name in the tables.
        pois: Columns poi_id, address, lng, lat (degrees, WGS-84); no two rows are equal in the last three.
        records: The queries; the positives are the gold.
        among_candidates: Whether the candidates of each record are ranked; else all POIs are.
    """

    name: str
    pois: pd.DataFrame
    records: Sequence[Record]
    among_candidates: bool = False

    @cached_property
    def evaluation(self) -> EvaluationSet:
        """The gold as a matrix, and the ranks of score matrices."""
        return EvaluationSet(self.records, self.pois)

    @property
    def fingerprint(self) -> str:
        """A hash of the queries, their gold and the POI table."""
        queries = [(r.query, r.lng, r.lat, [p.key for p in r.positives], len(r.negatives)) for r in self.records]
        return short_hash([queries, self.pois[["poi_id", "address", "lng", "lat"]].to_numpy().tolist()])


@dataclass(frozen=True)
class Sources:
    """The folders of the sets.

    Attributes:
        data: Folder with geotes, name_pairs and address_pairs.
        helsinki: Folder that ``m3gal data osm`` wrote for the sample city.
    """

    data: Path
    helsinki: Path


def set_names() -> list[str]:
    """Return the names of all sets, in the order of the board."""
    return [GEOTES, *NAME_PAIRS, ADDRESS_PAIRS, HELSINKI_VIEWS, *(f"helsinki {kind}" for kind in PERTURBED_NAMES)]


def load_set(name: str, sources: Sources) -> LabelledSet:
    """Return the set of this name. Raises InputError for an unknown name or a missing file."""
    if name == GEOTES:
        return geotes_set(Dataset(sources.data / "geotes"))
    if name in NAME_PAIRS:
        return name_pairs_set(name, sources.data / "name_pairs" / name)
    if name == ADDRESS_PAIRS:
        return address_pairs_set(sources.data / "address_pairs" / "pairs.jsonl")
    if name == HELSINKI_VIEWS:
        records = read_records(sources.helsinki / "test_dataset_use_gis_helsinki.jsonl")
        return LabelledSet(name, distinct_pois(helsinki_pois(sources.helsinki)), records)
    kind = name.removeprefix("helsinki ")
    if kind not in PERTURBED_NAMES:
        raise InputError(f"no set {name!r}", hint=f"Sets: {'; '.join(set_names())}.")
    return names_set(name, helsinki_pois(sources.helsinki), PERTURBED_NAMES[kind])


def load_sets(names: Sequence[str], data: Path, folder: Path) -> list[LabelledSet]:
    """Return the sets of these names in the order of the board, with the sample city made in ``folder`` once.

    Raises:
        InputError: Unknown name, missing file.
    """
    known, sources = set_names(), Sources(data, folder / "helsinki")
    for name in names:
        if name not in known:
            raise InputError(f"no set {name!r}", where="--sets", hint=f"Sets: {'; '.join(known)}.")
    if any(name.startswith("helsinki") for name in names):
        make_helsinki(sources.helsinki)
    return [load_set(name, sources) for name in known if name in names]


def make_helsinki(folder: Path) -> None:
    """Make the files of the sample city with ``m3gal data osm``, unless they exist."""
    if not (folder / "done").is_file():
        m3gal("data", "osm", copy_sample(folder), "--output", folder, log=folder / "log.txt")
        (folder / "done").touch()


def geotes_set(dataset: Dataset) -> LabelledSet:
    """Return all queries of a GeoTES folder, train before dev."""
    return LabelledSet(GEOTES, distinct_pois(dataset.pois), [*dataset.train, *dataset.dev])


def name_pairs_set(name: str, folder: Path) -> LabelledSet:
    """Return the set of a folder with poi.csv and labels.csv (query, poi_id)."""
    pois = read_pois(folder / "poi.csv")
    passages = {str(row.poi_id): passage_of(row) for row in pois.itertuples()}
    labels = pd.read_csv(folder / "labels.csv", dtype=str)
    gold: dict[str, list[Passage]] = {}
    for query, poi_id in zip(labels["query"], labels["poi_id"], strict=True):
        gold.setdefault(query, []).append(passages[poi_id])
    return LabelledSet(name, distinct_pois(pois), [Record(query, own, []) for query, own in gold.items()])


def address_pairs_set(path: Path) -> LabelledSet:
    """Return the queries of a file of graded candidates that have an ``exact`` one, which is the gold."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    records = []
    for row in rows:
        graded = [(Passage(c["text"], *NO_PLACE), c["label"] == "exact") for c in row["candidates"]]
        positives, negatives = ([p for p, exact in graded if exact == wanted] for wanted in (True, False))
        if positives:
            records.append(Record(row["query"], positives, negatives))
    texts = list(dict.fromkeys(p.text for r in records for p in r.passages))
    pois = pd.DataFrame({"poi_id": range(len(texts)), "address": texts, "lng": NO_PLACE[0], "lat": NO_PLACE[1]})
    return LabelledSet(ADDRESS_PAIRS, pois, records, among_candidates=True)


def helsinki_pois(folder: Path) -> pd.DataFrame:
    """Return the POI table of the sample city, with name and street."""
    return read_pois(folder / "poi_database_helsinki.parquet")


def names_set(name: str, pois: pd.DataFrame, change: Callable[[str, str, random.Random], str]) -> LabelledSet:
    """Return a set of queries made from the names of POIs, the same POIs for every change.

    Only names that no other POI has, with at least ``SHORTEST_NAME`` characters, of POIs with a street are taken.

    Args:
        name: Name of the set.
        pois: POI table with the columns name and street.
        change: Makes a query from name, street and a random generator.
    """
    keys = pois["name"].map(reading_key)
    usable = ~keys.duplicated(keep=False) & (pois["name"].str.len() >= SHORTEST_NAME) & (pois["street"] != "")
    chosen = pois[usable].sample(min(NAMES, int(usable.sum())), random_state=NAMES_SEED)
    records = [
        Record(change(row.name, row.street, random.Random(f"{NAMES_SEED}|{name}|{row.poi_id}")), [passage_of(row)], [])
        for row in chosen.itertuples(index=False)
    ]
    return LabelledSet(name, distinct_pois(pois), records)


def passage_of(row: object) -> Passage:
    """Return a row of a POI table as a passage."""
    return Passage(row.address, float(row.lng), float(row.lat), str(row.poi_id))  # type: ignore[attr-defined]


def edit(text: str, rng: random.Random) -> str:
    """Return a text with one typing error: a Latin letter inserted or replaced, a character deleted, or two swapped.

    The first character does not change. A text of one character gets a letter. The errors are not those of
    ``text.perturbations``, on which the reranker is trained.
    """
    for _ in range(100):  # a swap of equal letters changes nothing
        at, letter = rng.randrange(1, max(2, len(text))), rng.choice(ascii_lowercase)
        before, rest = text[:at], text[at:]
        made = rng.choice([before + letter + rest, before + letter + rest[1:], before + rest[1:]])
        if rng.randrange(4) == 0 and len(rest) > 1:
            made = before + rest[1] + rest[0] + rest[2:]
        if made not in ("", text):
            return made
    return text + letter


# From name and street to a query.
PERTURBED_NAMES: dict[str, Callable[[str, str, random.Random], str]] = {
    "exact": lambda name, street, rng: name,
    "one edit": lambda name, street, rng: edit(name, rng),
    "two edits": lambda name, street, rng: edit(edit(name, rng), rng),
    "prefix": lambda name, street, rng: prefix(name),
    "name + street": lambda name, street, rng: f"{edit(name, rng)} {edit(street, rng)}",
}
