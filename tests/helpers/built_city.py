"""Build cities from extracts, read the files back, and check the rules of every build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from m3gal_cli.data.poi_reader import read_pois
from m3gal_cli.data.records import Record, read_records
from m3gal_cli.data.tables import read_views
from m3gal_cli.osm import OsmOptions, OsmSummary, build_city
from m3gal_cli.text.normalise import reading_key

SPLITS = ("test", "val", "train")


@dataclass(frozen=True)
class Built:
    """A built city: its tables, and its records by split."""

    folder: Path
    options: OsmOptions
    summary: OsmSummary
    views: pd.DataFrame
    pois: pd.DataFrame
    facts: pd.DataFrame
    records: dict[str, list[Record]]

    @property
    def of_places(self) -> pd.DataFrame:
        """The pairs of places, without those of synthetic parts."""
        return self.views[~self.views["poi_id"].str.contains("#")]

    @property
    def of_parts(self) -> pd.DataFrame:
        """The pairs of synthetic parts of compounds."""
        return self.views[self.views["poi_id"].str.contains("#")]


def built(extract: Path, out: Path, options: OsmOptions | None = None) -> Built:
    """Build a city and read its files."""
    options = options or OsmOptions()
    summary = build_city(extract, out, options)
    s = options.suffix
    views, pois = read_views(out / f"same_poi_views_{s}.parquet"), read_pois(out / f"poi_database_{s}.parquet")
    records = {n: _records(out / f"{n}_dataset_use_gis_{s}.jsonl") for n in SPLITS}
    return Built(out, options, summary, views, pois, pd.read_parquet(out / f"facts_{s}.parquet"), records)


def _records(path: Path) -> list[Record]:
    return read_records(path) if path.stat().st_size else []  # a small city has no queries for a split


def check_rules(city: Built) -> None:
    """Check the rules of every build."""
    check_pairs(city)
    check_parts(city)
    check_tables(city)
    trained = set(city.views["address1"].map(reading_key)) | set(city.views["address2"].map(reading_key))
    rows = set(zip(city.pois["address"], city.pois["lng"], city.pois["lat"], strict=True))
    seen: set[str] = set()
    for name in SPLITS:
        for record in city.records[name]:
            check_record(record, rows, min(city.options.negatives, len(city.pois) - 1))
        queries = {reading_key(r.query) for r in city.records[name]}
        assert name == "train" or not queries & trained
        assert not queries & seen
        seen |= queries if name != "train" else set()
    places = {n: {r.positives[0].docid for r in city.records[n]} for n in SPLITS}
    assert not places["test"] & places["val"]
    held_out = {(str(r.positives[0].docid), r.extra["kind"]) for n in ("val", "test") for r in city.records[n]}
    for side in ("kind1", "kind2"):
        assert not held_out & set(zip(city.views["poi_id"], city.views[side], strict=True))


def check_pairs(city: Built) -> None:
    """Check that no side is empty or a prefix of the other, and that no two groups have the same text."""
    for side in (city.views["address1"], city.views["address2"]):
        assert side.map(reading_key).str.len().gt(1).all()
        assert (side == side.map(lambda text: " ".join(text.split()))).all()  # single spaces
    views = city.views.assign(one=city.views["address1"].map(reading_key), two=city.views["address2"].map(reading_key))
    assert not any(a.startswith(b) or b.startswith(a) for a, b in zip(views["one"], views["two"], strict=True))
    assert (views["kind1"] != views["kind2"]).all()
    assert (views["kind1"] != "poi").all()
    groups: dict[str, set[int]] = {}
    rows = zip(city.pois["address"].map(reading_key), city.pois["group"], strict=True)
    pairs = [zip(views[side], views["group"], strict=True) for side in ("one", "two")]
    for text, group in [*rows, *pairs[0], *pairs[1]]:
        groups.setdefault(text, set()).add(group)
    assert [text for text, found in groups.items() if len(found) > 1] == []
    others = views.loc[views["kind2"] != "poi", ["two", "poi_id"]].set_axis(["one", "poi_id"], axis=1)
    texts = pd.concat([views[["one", "poi_id"]], others])
    assert texts.drop_duplicates()["one"].is_unique  # no query text fits two places


def check_parts(city: Built) -> None:
    """Check that a synthetic part has its own id and group, and the coordinates of its compound."""
    parts = city.of_parts
    assert parts["kind1"].str.startswith("sub_").all()
    assert (parts["kind2"] == "poi").all()
    assert (parts["group"] >= len(city.pois)).all()
    assert parts.groupby("poi_id")["group"].nunique().le(1).all()
    assert parts.groupby("group")["poi_id"].nunique().le(1).all()
    names = city.pois.assign(one=city.pois["name"].map(reading_key))
    real = set(names["one"]) | set(city.pois["address"].map(reading_key))
    assert not real & (set(parts["address1"].map(reading_key)) | set(parts["address2"].map(reading_key)))


def check_tables(city: Built) -> None:
    """Check that ids, groups and coordinates agree in all tables."""
    pois = city.pois.set_index("poi_id")
    assert pois.index.is_unique
    assert city.facts["poi_id"].tolist() == pois.index.tolist()
    for column in ("group", "lng", "lat"):
        assert city.facts[column].tolist() == pois[column].tolist()
        owner = city.views["poi_id"].str.partition("#")[0]
        rows = city.of_places if column == "group" else city.views
        assert rows[column].tolist() == pois[column].loc[owner[rows.index]].tolist()
    assert city.views["group"].dtype == pois["group"].dtype == city.facts["group"].dtype == np.int64
    first = pois.groupby("group").head(1)
    assert first["group"].tolist() == [pois.index.get_loc(i) for i in first.index]
    twins = pois.assign(one=pois["address"].map(reading_key)).groupby("one")["group"].nunique()
    assert twins.max() == 1  # equal texts are one group
    alike = pois.assign(one=pois["address"].map(reading_key), name=pois["name"].map(reading_key)).groupby("group")
    assert (alike[["one", "name"]].nunique().min(axis=1) == 1).all()  # these cities have no chain of two kinds of keys


def check_record(record: Record, rows: set[tuple[str, float, float]], negatives: int) -> None:
    """Check that positive and negatives are POIs with different texts."""
    (gold,) = record.positives
    assert (gold.text, gold.lng, gold.lat) in rows
    assert record.lng is not None
    texts = [reading_key(p.text) for p in record.negatives]
    assert reading_key(gold.text) not in texts
    assert len(set(texts)) == len(texts)
    assert negatives - 5 <= len(texts) <= negatives or len(rows) < 200
    assert all((p.text, p.lng, p.lat) in rows for p in record.negatives)
