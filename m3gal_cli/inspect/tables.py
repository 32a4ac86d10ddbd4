"""Inspection of view tables, POI tables and facts tables."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pyarrow as pa

from m3gal_cli.data.poi_reader import DEFAULT_OPTIONS, PoiOptions, PoiStream, open_pois
from m3gal_cli.data.tables import GEOHASH_COLUMNS, read_facts, read_views
from m3gal_cli.geo.datums import to_wgs84
from m3gal_cli.inspect.city import is_given
from m3gal_cli.inspect.extent import add_datum, add_extent, add_geohash_fit
from m3gal_cli.inspect.file_kinds import FACTS, VIEWS
from m3gal_cli.inspect.inspection import Inspection, InspectOptions, spread_rows

_EXAMPLE_FACTS = ("poi_id", "name", "category", "lng", "lat", "street", "housenumber", "area", "district", "city")


def inspect_table(path: Path, kind: str, options: InspectOptions) -> tuple[Inspection, pd.DataFrame]:
    """Inspect a view table or a POI table; return the result and the table in WGS-84."""
    is_views = kind == VIEWS
    inspection = Inspection(path, kind)
    raw = read_views(path) if is_views else _read_pois(path, options, inspection)  # unconverted: for the digits
    frame = _in_wgs84(raw, options)
    texts = ["address1", "address2"] if is_views else ["address"]
    keys = [*texts, "lng", "lat"]
    inspection.add("rows", len(frame))
    inspection.add("distinct rows", len(frame[keys].drop_duplicates()))
    inspection.add("duplicate rows", int(frame.duplicated(keys).sum()))
    inspection.add("distinct places", len(frame[["lng", "lat"]].drop_duplicates()))
    for column in texts:
        _add_texts(inspection, column if is_views else "text", frame, column)
    if is_views:
        equal = int((frame["address1"].str.strip() == frame["address2"].str.strip()).sum())
        inspection.add("pairs of equal texts", equal, key="pairs_that_read_the_same")
        if equal:
            inspection.warnings.append(
                f"{equal:,} pairs consist of two equal texts: training learns nothing from them."
            )
    elif duplicates := inspection.numbers["duplicate_rows"]:
        inspection.warnings.append(f"{duplicates:,} rows repeat another row: evaluation counts them as the same place.")
    further = [column for column in frame.columns if column not in (*keys, *GEOHASH_COLUMNS)]
    if further:
        inspection.facts.append(("further columns", ", ".join(map(str, further))))
    add_extent(inspection, frame["lng"].to_numpy(), frame["lat"].to_numpy())
    add_geohash_fit(inspection, raw)
    add_datum(inspection, raw["lng"].to_numpy(float), raw["lat"].to_numpy(float), options.datum)
    rows = spread_rows(len(frame), options)
    inspection.set_examples(frame.drop(columns=GEOHASH_COLUMNS, errors="ignore").iloc[rows], rows)
    return inspection, frame


def inspect_facts(path: Path, options: InspectOptions) -> tuple[Inspection, pd.DataFrame]:
    """Inspect a facts table; return the result and the table in WGS-84."""
    raw = read_facts(path)
    frame = _in_wgs84(raw, options)
    inspection = Inspection(path, FACTS)
    names = frame["name"][frame["name"].map(is_given)]
    inspection.add("rows", len(frame))
    inspection.add("places with a name", len(names))
    inspection.add("distinct names", int(names.nunique()))
    inspection.add("distinct places", len(frame[["lng", "lat"]].drop_duplicates()))
    if "group" in frame.columns:
        duplicates = int(frame["group"].duplicated(keep=False).sum())
        inspection.add("places with a text that others have too", duplicates, key="places_that_read_like_another_one")
    inspection.facts.append(("columns", ", ".join(frame.columns)))
    add_extent(inspection, frame["lng"].to_numpy(), frame["lat"].to_numpy())
    add_datum(inspection, raw["lng"].to_numpy(float), raw["lat"].to_numpy(float), options.datum)
    rows = spread_rows(len(frame), options)
    inspection.set_examples(frame[[c for c in _EXAMPLE_FACTS if c in frame.columns]].iloc[rows], rows)
    return inspection, frame


def read_pois_without_row_numbers(path: Path, options: PoiOptions = DEFAULT_OPTIONS) -> pd.DataFrame:
    """Read a POI table without the row numbers that the reader adds as poi_id to a table without ids."""
    with open_pois(path, options) as stream:
        return _frame_of(stream)


def _frame_of(stream: PoiStream) -> pd.DataFrame:
    frame = pa.concat_tables(stream.batches()).to_pandas()
    return frame if stream.has_ids else frame.drop(columns="poi_id")


def _read_pois(path: Path, options: InspectOptions, inspection: Inspection) -> pd.DataFrame:
    """Read a POI table unconverted, and add its format and schema to the facts."""
    with open_pois(
        path, PoiOptions(columns=options.columns, bad_rows=options.bad_rows), inspection.notes.append
    ) as stream:
        inspection.notes.clear()  # the facts say it
        inspection.facts += [("format", ", ".join(stream.notes))] if stream.notes else []
        if stream.schema.name != "m3gal":
            inspection.facts.append(("schema", stream.schema.name))
            inspection.facts += [(f"schema: {role}", source) for role, source in stream.schema.describe()]
        return _frame_of(stream)


def _in_wgs84(raw: pd.DataFrame, options: InspectOptions) -> pd.DataFrame:
    lng, lat = to_wgs84(raw["lng"], raw["lat"], options.datum)
    return raw.assign(lng=lng, lat=lat)


def _add_texts(inspection: Inspection, label: str, frame: pd.DataFrame, column: str) -> None:
    """Add the number of distinct texts, of texts that several places share, and the text lengths."""
    stripped = frame[column].str.strip()
    places = frame[["lng", "lat"]].assign(text=stripped).drop_duplicates()
    shared = int((places.groupby("text").size() > 1).sum())
    inspection.add(f"{label}: distinct", int(stripped.nunique()), key=f"{label}_distinct")
    inspection.add(f"{label}: shared by several places", shared, key=f"{label}_shared")
    inspection.add_lengths(label, frame[column].tolist())
