"""Reading the tables of one city and putting them together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from m3gal_cli.data.tables import read_frame, read_pois, read_views
from m3gal_cli.errors import InputError
from m3gal_cli.files import suffix_of
from m3gal_cli.geo.coordinates import Datum, to_wgs84
from m3gal_cli.inspect.city import FACT_COLUMNS, NO_KIND, NO_VIEW_KIND, POI_ROW, City, is_given
from m3gal_cli.inspect.city_files import FACTS, FACTS_COLUMNS, POIS, VIEWS, columns_of, siblings
from m3gal_cli.inspect.extent import add_datum_fact, add_extent, shift_m
from m3gal_cli.inspect.inspection import Inspection, numbered, spread_rows

_SHOWN = ("poi_id", "name", "category", "lng", "lat", "street", "housenumber", "area", "district", "city")


def read_facts(path: Path, datum: Datum = "wgs84") -> pd.DataFrame:
    """Read the facts of a city (GeoParquet or any table with the columns poi_id, name, category, lng, lat).

    Returns:
        A row a place, lng and lat in degrees, WGS-84; poi_id as text; without the geometry.

    Raises:
        InputError: what ``read_frame`` refuses, a missing column, no rows, ids that repeat, coordinates that are none.
    """
    frame = read_frame(path, "facts table")
    missing = sorted(FACTS_COLUMNS - set(frame.columns))
    if missing:
        raise InputError(f"the facts table has no column {', '.join(missing)}", where=path, hint="Make it again.")
    if frame.empty:
        raise InputError("the facts table has no rows", where=path, hint="Make it again.")
    ids = frame["poi_id"].astype(str)
    if ids.duplicated().any():
        twice = ids[ids.duplicated()].iloc[0]
        raise InputError(f"poi_id {twice!r} appears twice", where=f"{path}: poi_id", hint="Make ids unique.")
    for column, limit in (("lng", 180.0), ("lat", 90.0)):
        numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
        wrong = ~(np.abs(numbers) <= limit)
        if wrong.any():
            row = int(np.argmax(wrong))
            what = f"expected degrees up to {limit:g}, got {frame[column].iloc[row]!r}"
            raise InputError(what, where=f"{path}: row {row + 1}: {column}", hint="Make it again.")
    lng, lat = to_wgs84(frame["lng"].astype(float), frame["lat"].astype(float), datum)
    return frame.drop(columns="geometry", errors="ignore").assign(poi_id=ids, lng=lng, lat=lat)


def inspect_facts(path: Path, show: tuple[int, int], datum: Datum) -> tuple[Inspection, pd.DataFrame]:
    """What a facts table holds, and the table; ``show`` is (seed, number of examples)."""
    raw = read_facts(path)
    lng, lat = to_wgs84(raw["lng"], raw["lat"], datum)
    frame = raw.assign(lng=lng, lat=lat)
    found = Inspection(path, FACTS)
    names = frame["name"][frame["name"].map(is_given)]
    found.add("rows", len(frame))
    found.add("places with a name", len(names))
    found.add("distinct names", int(names.nunique()))
    found.add("distinct places", len(frame[["lng", "lat"]].drop_duplicates()))
    if "group" in frame.columns:
        found.add("places that read like another one", int(frame["group"].duplicated(keep=False).sum()))
    found.facts.append(("columns", ", ".join(frame.columns)))
    add_extent(found, lng, lat)
    add_datum_fact(found, shift_m(raw["lng"].to_numpy(float), raw["lat"].to_numpy(float)), datum)
    rows = spread_rows(len(frame), *show)
    found.examples = numbered(frame[[c for c in _SHOWN if c in frame.columns]].iloc[rows], rows)
    return found, frame


def load_city(path: Path, kind: str, frame: pd.DataFrame, datum: Datum, warnings: list[str]) -> City:
    """Put a table and those beside it together.

    Args:
        path: The table that was named.
        kind: view table, POI table or facts.
        frame: Its rows, coordinates in WGS-84.
        datum: Of the other tables, which are read here.
        warnings: Takes what is odd about the other tables.
    """
    beside = siblings(path, kind)
    views = _fuller(path, frame, beside.views, warnings) if kind == VIEWS else _views(beside.views, datum)
    pois = _fuller(path, frame, beside.pois, warnings) if kind == POIS else _pois(beside.pois, datum)
    facts = frame if kind == FACTS else None
    if kind != FACTS and beside.facts is not None:
        facts = read_facts(beside.facts, datum)
    views, pois = _with_ids(views, pois)
    if views is not None:
        views = _fold_parts(views, next((frame["poi_id"] for frame in (facts, pois) if frame is not None), None))
    places = _places(facts, pois, views)
    texts = _texts(views, pois)
    known = texts["poi_id"].isin(places["poi_id"])
    if not known.all():
        strange = texts["poi_id"][~known].nunique()
        warnings.append(f"{strange:,} places of the view table are not in the tables beside it: of another run?")
    return City(places, texts[known].reset_index(drop=True), views is not None)


def _views(path: Path | None, datum: Datum) -> pd.DataFrame | None:
    return None if path is None else read_views(path, datum)


def _pois(path: Path | None, datum: Datum) -> pd.DataFrame | None:
    """A POI table; the row numbers that the reader gives to rows without ids are no ids."""
    if path is None:
        return None
    frame = read_pois(path, datum)
    return frame if "poi_id" in columns_of(path, suffix_of(path)) else frame.drop(columns="poi_id")


def _fuller(path: Path, frame: pd.DataFrame, twin: Path | None, warnings: list[str]) -> pd.DataFrame:
    """``frame`` with the further columns of its .parquet twin, unless that holds other rows."""
    if twin is None or twin == path or suffix_of(twin) != ".parquet":
        return frame
    text = "address1" if "address1" in frame.columns else "address"
    other = read_frame(twin)
    if text in other.columns and len(other) == len(frame) and (other[text].array == frame[text].array).all():
        return frame.assign(**{column: other[column].array for column in other.columns if column not in frame.columns})
    warnings.append(f"{twin.name} beside it holds other rows: passed over.")
    return frame


def _with_ids(views: pd.DataFrame | None, pois: pd.DataFrame | None) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Ids as text. Where a table has none, "lng,lat" stands for one: what lies on one spot is one place."""
    if views is not None and "poi_id" not in views.columns and pois is not None:
        pois = pois.drop(columns="poi_id", errors="ignore")
    return _own_ids(views), _own_ids(pois)


def _own_ids(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    if frame is None:
        return None
    if "poi_id" in frame.columns:
        return frame.assign(poi_id=frame["poi_id"].astype(str))
    spots = [f"{lng:.6f},{lat:.6f}" for lng, lat in zip(frame["lng"], frame["lat"], strict=True)]
    return frame.assign(poi_id=spots)


def _fold_parts(views: pd.DataFrame, ids: pd.Series | None) -> pd.DataFrame:
    """Views of a part of a place ("n1#gate north") go to the place, and their kinds say which part they mean.

    ``ids`` are those of the places; without them every id of a view that names no part is one.
    """
    marked = views["poi_id"].str.contains("#", regex=False)
    if not marked.any():
        return views
    known = set(views["poi_id"][~marked] if ids is None else ids)
    names = views["poi_id"].str.partition("#")
    folded = marked & names[0].isin(known) & ~views["poi_id"].isin(known)
    changed = {"poi_id": views["poi_id"].mask(folded, names[0])}
    for column in ("kind1", "kind2"):
        if column in views.columns:
            changed[column] = views[column].mask(folded, names[2] + ": " + views[column])
    return views.assign(**changed)


def _places(facts: pd.DataFrame | None, pois: pd.DataFrame | None, views: pd.DataFrame | None) -> pd.DataFrame:
    """A row a place, from the fullest table: the facts, else the POI table, else the view table."""
    source = next(frame for frame in (facts, pois, views) if frame is not None)
    frame = source.drop_duplicates("poi_id")
    columns = {"poi_id": frame["poi_id"].astype(str), "lng": frame["lng"], "lat": frame["lat"]}
    for column in ("name", "category"):
        texts = frame[column] if column in frame.columns else pd.Series("", index=frame.index)
        columns[column] = texts.map(lambda value: str(value) if is_given(value) else "")
    columns["kind"] = columns["category"].str.split("=").str[0].replace("", NO_KIND)
    extra = {c for name, c in FACT_COLUMNS.items()} | {"words", "crossing_b", "street_by_address"}
    extra |= {f"{name}_{what}" for name in FACT_COLUMNS for what in ("metres", "bearing")}
    return pd.DataFrame(columns | {c: frame[c] for c in frame.columns if c in extra}).reset_index(drop=True)


def _texts(views: pd.DataFrame | None, pois: pd.DataFrame | None) -> pd.DataFrame:
    """poi_id, kind, text, each once: POI rows first, then the views in the order of their kinds."""
    parts = []
    if pois is not None:
        parts.append(pd.DataFrame({"poi_id": pois["poi_id"], "kind": POI_ROW, "text": pois["address"]}))
    if views is not None:
        for side in ("1", "2"):
            kinds = views[f"kind{side}"].fillna("").astype(str) if f"kind{side}" in views.columns else NO_VIEW_KIND
            parts.append(pd.DataFrame({"poi_id": views["poi_id"], "kind": kinds, "text": views[f"address{side}"]}))
    if not parts:
        return pd.DataFrame({"poi_id": [], "kind": [], "text": []}, dtype=str)
    frame = pd.concat(parts, ignore_index=True).drop_duplicates()
    frame = frame[(frame["kind"] != NO_VIEW_KIND) | ~frame.duplicated(["poi_id", "text"])].copy()
    frame["late"] = frame["kind"] != POI_ROW
    return frame.sort_values(["late", "kind", "text"], ignore_index=True).drop(columns="late")
