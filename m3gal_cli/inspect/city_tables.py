"""Joining of the view table, POI table and facts of one city."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from m3gal_cli.data.poi_reader import PoiOptions
from m3gal_cli.data.tables import read_facts, read_frame, read_views
from m3gal_cli.files import suffix_of
from m3gal_cli.geo.datums import Datum
from m3gal_cli.inspect.city import FACT_COLUMNS, NO_KIND, NO_VIEW_KIND, POI_ROW, City, is_given
from m3gal_cli.inspect.file_kinds import FACTS, POIS, VIEWS, city_files
from m3gal_cli.inspect.tables import read_pois_without_row_numbers


def load_city(path: Path, kind: str, frame: pd.DataFrame, datum: Datum, warnings: list[str]) -> City:
    """Join a table with the other tables of its city in the same folder.

    Args:
        path: The table.
        kind: Its kind.
        frame: Its rows, in WGS-84.
        datum: Datum of the other tables.
        warnings: Receives tables that were ignored and views without a place.

    Raises:
        InputError: One of the other tables is invalid.
    """
    files = city_files(path, kind)
    views: pd.DataFrame | None = None
    pois: pd.DataFrame | None = None
    facts = frame if kind == FACTS else None
    if kind == VIEWS:
        views = _with_twin_columns(path, frame, files.views, warnings)
    elif files.views is not None:
        views = read_views(files.views, datum)
    if kind == POIS:
        pois = _with_twin_columns(path, frame, files.pois, warnings)
    elif files.pois is not None:
        pois = read_pois_without_row_numbers(files.pois, PoiOptions(datum))
    if kind != FACTS and files.facts is not None:
        facts = read_facts(files.facts, datum)
    views, pois = _with_ids(views, pois)
    if views is not None:
        views = _merge_parts(views, next((table["poi_id"] for table in (facts, pois) if table is not None), None))
    places = _places(facts, pois, views)
    texts = _texts(views, pois)
    known = texts["poi_id"].isin(places["poi_id"])
    if not known.all():
        unknown = texts["poi_id"][~known].nunique()
        warnings.append(f"{unknown:,} places of the view table are not in the other tables: from another run?")
    return City(places, texts[known].reset_index(drop=True), views is not None)


def _with_twin_columns(path: Path, frame: pd.DataFrame, twin: Path | None, warnings: list[str]) -> pd.DataFrame:
    """Add the further columns of the .parquet twin to ``frame``, unless the twin holds other rows."""
    if twin is None or twin == path or suffix_of(twin) != ".parquet":
        return frame
    text = "address1" if "address1" in frame.columns else "address"
    other = read_frame(twin)
    if text in other.columns and len(other) == len(frame) and (other[text].array == frame[text].array).all():
        return frame.assign(**{column: other[column].array for column in other.columns if column not in frame.columns})
    warnings.append(f"{twin.name} is ignored: its rows differ from those of {path.name}.")
    return frame


def _with_ids(views: pd.DataFrame | None, pois: pd.DataFrame | None) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Return both tables with text ids. If the views have none, "lng,lat" identifies a place in both tables."""
    if views is not None and "poi_id" not in views.columns and pois is not None:
        pois = pois.drop(columns="poi_id", errors="ignore")
    return _with_text_ids(views), _with_text_ids(pois)


def _with_text_ids(frame: pd.DataFrame | None) -> pd.DataFrame | None:
    if frame is None:
        return None
    if "poi_id" in frame.columns:
        return frame.assign(poi_id=frame["poi_id"].astype(str))
    return frame.assign(poi_id=[f"{x:.6f},{y:.6f}" for x, y in zip(frame["lng"], frame["lat"], strict=True)])


def _merge_parts(views: pd.DataFrame, ids: pd.Series | None) -> pd.DataFrame:
    """Assign the views of a part ("n1#gate north") to its place ("n1"), if that is in ``ids``; kinds name the part."""
    has_part = views["poi_id"].str.contains("#", regex=False)
    if not has_part.any():
        return views
    known = set(views["poi_id"][~has_part] if ids is None else ids)
    names = views["poi_id"].str.partition("#")
    merged = has_part & names[0].isin(known) & ~views["poi_id"].isin(known)
    changed = {"poi_id": views["poi_id"].mask(merged, names[0])}
    for column in ("kind1", "kind2"):
        if column in views.columns:
            changed[column] = views[column].mask(merged, names[2] + ": " + views[column])
    return views.assign(**changed)


def _places(facts: pd.DataFrame | None, pois: pd.DataFrame | None, views: pd.DataFrame | None) -> pd.DataFrame:
    """Return one row per place, from the facts, else the POI table, else the view table."""
    source = next(frame for frame in (facts, pois, views) if frame is not None)
    frame = source.drop_duplicates("poi_id")
    columns = {"poi_id": frame["poi_id"].astype(str), "lng": frame["lng"], "lat": frame["lat"]}
    for column in ("name", "category"):
        texts = frame[column] if column in frame.columns else pd.Series("", index=frame.index)
        columns[column] = texts.map(lambda value: str(value) if is_given(value) else "")
    columns["kind"] = columns["category"].str.split("=").str[0].replace("", NO_KIND)
    fact_columns = {*FACT_COLUMNS.values(), "words", "crossing_b", "street_by_address"}
    fact_columns |= {f"{name}_{quantity}" for name in FACT_COLUMNS for quantity in ("metres", "bearing")}
    return pd.DataFrame(columns | {c: frame[c] for c in frame.columns if c in fact_columns}).reset_index(drop=True)


def _texts(views: pd.DataFrame | None, pois: pd.DataFrame | None) -> pd.DataFrame:
    """Return distinct (poi_id, kind, text): POI rows first, then views, sorted by kind and text."""
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
    frame = frame[(frame["kind"] != NO_VIEW_KIND) | ~frame.duplicated(["poi_id", "text"])]
    frame = frame.assign(is_view=frame["kind"] != POI_ROW)
    return frame.sort_values(["is_view", "kind", "text"], ignore_index=True).drop(columns="is_view")
