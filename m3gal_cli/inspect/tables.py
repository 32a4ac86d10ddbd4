"""What view tables and POI tables hold."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from m3gal_cli.data.tables import GEOHASH_COLUMNS, read_pois, read_views
from m3gal_cli.files import suffix_of
from m3gal_cli.geo.coordinates import Datum, to_wgs84
from m3gal_cli.inspect.city_files import VIEWS, columns_of
from m3gal_cli.inspect.extent import add_datum, add_extent
from m3gal_cli.inspect.inspection import Inspection, add_lengths, numbered, spread_rows


def inspect_table(path: Path, kind: str, show: tuple[int, int], datum: Datum) -> tuple[Inspection, pd.DataFrame]:
    """What a view table or a POI table holds, and its rows in WGS-84; ``show`` is (seed, number of examples)."""
    views = kind == VIEWS
    raw = read_views(path) if views else read_pois(path)  # as the file has it: the datum is judged on this
    if "poi_id" in raw.columns and "poi_id" not in columns_of(path, suffix_of(path)):
        raw = raw.drop(columns="poi_id")  # the reader numbered the rows
    lng, lat = to_wgs84(raw["lng"], raw["lat"], datum)
    frame = raw.assign(lng=lng, lat=lat)
    found = Inspection(path, kind)
    texts = ["address1", "address2"] if views else ["address"]
    keys = [*texts, "lng", "lat"]
    found.add("rows", len(frame))
    found.add("distinct rows", len(frame[keys].drop_duplicates()))
    found.add("duplicate rows", int(frame.duplicated(keys).sum()))
    found.add("distinct places", len(frame[["lng", "lat"]].drop_duplicates()))
    for text in texts:
        _add_texts(found, text if views else "text", frame[text], frame)
    if views:
        same = int((frame["address1"].str.strip() == frame["address2"].str.strip()).sum())
        found.add("pairs that read the same", same)
        if same:
            found.warnings.append(f"{same:,} pairs are twice the same text and teach nothing.")
    elif duplicates := found.numbers["duplicate_rows"]:
        found.warnings.append(f"{duplicates:,} rows repeat another row: evaluation counts them as the same place.")
    extra = [c for c in frame.columns if c not in (*keys, *GEOHASH_COLUMNS)]
    if extra:
        found.facts.append(("further columns", ", ".join(map(str, extra))))
    add_extent(found, lng, lat)
    add_datum(found, raw, datum)
    rows = spread_rows(len(frame), *show)
    hidden = [c for c in GEOHASH_COLUMNS if c in frame.columns]
    found.examples = numbered(frame.drop(columns=hidden).iloc[rows], rows)
    return found, frame


def _add_texts(found: Inspection, name: str, texts: pd.Series, frame: pd.DataFrame) -> None:
    """Distinct texts, lengths, and texts that stand for several places."""
    stripped = texts.str.strip()
    places = frame[["lng", "lat"]].assign(text=stripped).drop_duplicates()
    shared = int((places.groupby("text").size() > 1).sum())
    label = name.replace(" ", "_")
    found.add(f"{name}: distinct", int(stripped.nunique()), key=f"{label}_distinct")
    found.add(f"{name}: shared by several places", shared, key=f"{label}_shared")
    add_lengths(found, name, texts.tolist())
