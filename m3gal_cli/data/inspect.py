"""What a data file holds: counts, texts, places, candidates, suspected problems and a few rows, as plain data.

Works on view tables, POI tables, candidate records and query files; the kind is told from columns and keys.
Distances are metres unless a name or a unit says kilometres; coordinates are (lng, lat) in degrees, WGS-84.
"""

from __future__ import annotations

import csv
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.coordinates import (
    GEOHASH_LENGTH,
    Datum,
    check_datum,
    gcj02_to_wgs84,
    geohash_digits,
    haversine_m,
    in_china,
    to_wgs84,
    wgs84_to_gcj02,
)
from m3gal_cli.data.files import open_text, require_file, suffix_of
from m3gal_cli.data.records import FAR_M, NEAR_M, Record, parse_lnglat, read_records, resolve_records, typed_m
from m3gal_cli.data.tables import GEOHASH_COLUMNS, iter_json_lines, read_frame, read_pois, read_views
from m3gal_cli.errors import InputError

CITY_KM = 300.0  # an extent beyond this is no city: stray or swapped coordinates are likely


@dataclass
class Inspection:
    """What was found in a file.

    Args:
        path: The file that was read (a .jsonl twin if that stood in for a .pth).
        kind: view table, POI table, candidate records or queries.
        facts: (name, value) in reading order, values written out with their units.
        numbers: The same as numbers, by machine-readable name.
        examples: Rows spread over the file, with the row numbers (from 1) in the column row.
        warnings: Suspected problems in words.
    """

    path: Path
    kind: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, float | int | None] = field(default_factory=dict)
    examples: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: list[str] = field(default_factory=list)

    def add(self, name: str, value: float | int, unit: str = "", *, key: str | None = None) -> None:
        """Append a number to the facts and, under its key, to the numbers."""
        number = value.item() if isinstance(value, np.generic) else value
        shown = f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"
        self.facts.append((name, f"{shown} {unit}".strip()))
        self.numbers[key or name.replace(" ", "_")] = number

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form: path, kind, facts, numbers, warnings, examples (a list of rows)."""
        rows = self.examples.astype(object).where(self.examples.notna(), None).to_dict("records")
        return {
            "path": str(self.path),
            "kind": self.kind,
            "facts": dict(self.facts),
            "numbers": self.numbers,
            "warnings": list(self.warnings),
            "examples": [{str(k): _plain(v) for k, v in row.items()} for row in rows],
        }


def inspect_file(path: Path, seed: int = 0, examples: int = 10, datum: Datum = "wgs84") -> Inspection:
    """Read a file whole, validated as the commands would read it, and say what it holds.

    Args:
        path: A view table, a POI table, candidate records (.jsonl, .pth) or queries.jsonl.
        seed: Chooses the example rows; the same seed shows the same rows.
        examples: How many rows to show at most, spread over the file.
        datum: The datum of the file's coordinates.

    Raises:
        InputError: what the readers refuse, a map extract, or a file of none of these kinds.
    """
    check_datum(datum)
    path = resolve_records(path)
    kind = kind_of(path)
    if kind == "candidate records":
        return _inspect_records(path, seed, examples, datum)
    if kind == "queries":
        return _inspect_queries(path, seed, examples, datum)
    return _inspect_table(path, kind, (seed, examples), datum)


def kind_of(path: Path) -> str:
    """Tell a file's kind by its suffix and its columns or keys. Raises InputError if it is of no known kind."""
    if path.name.lower().endswith((".pbf", ".osm", ".osm.gz", ".osm.bz2", ".o5m")):
        hint = "Turn it into a view table and a POI table first: m3gal data osm"
        raise InputError("is a map extract, not a table", where=path, hint=hint)
    require_file(path, "data file")
    suffix = suffix_of(path)
    if suffix == ".pth":
        return "candidate records"
    columns = set(_columns(path, suffix))
    if columns & {"positive_passages", "negative_passages"}:
        return "candidate records"
    if columns & {"address1", "address2"}:
        return "view table"
    if "address" in columns:
        return "POI table"
    if suffix == ".jsonl" and "query" in columns:
        return "queries"
    expected = "address1, address2 (view table), address (POI table), or the GeoTES keys"
    found = ", ".join(sorted(columns)) or "none"
    raise InputError(f"no known kind of file (its columns: {found})", where=path, hint=f"Expected {expected}.")


def _columns(path: Path, suffix: str) -> list[str]:
    """The columns of a table, or the keys of the first line; without reading the rest where that can be had."""
    if suffix == ".jsonl":
        return list(next(iter_json_lines(path))[1])
    if suffix == ".csv":
        try:
            with open_text(path) as file:
                return [cell.strip() for cell in next(csv.reader(file), [])]
        except (OSError, EOFError, ValueError, zlib.error, csv.Error):
            pass  # the reader below says what is wrong
    return [str(column) for column in read_frame(path).columns]


def _inspect_table(path: Path, kind: str, show: tuple[int, int], datum: Datum) -> Inspection:
    views = kind == "view table"
    raw = read_views(path) if views else read_pois(path)  # as the file has it: the datum is judged on this
    if "poi_id" in raw.columns and "poi_id" not in _columns(path, suffix_of(path)):
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
    _add_extent(found, lng, lat)
    _add_datum(found, raw, datum)
    rows = _spread(len(frame), *show)
    hidden = [c for c in GEOHASH_COLUMNS if c in frame.columns]
    found.examples = _numbered(frame.drop(columns=hidden).iloc[rows], rows)
    return found


def _inspect_records(path: Path, seed: int, examples: int, datum: Datum) -> Inspection:
    records = read_records(path, datum)
    found = Inspection(path, "candidate records")
    passages = {p.key: p for record in records for p in record.passages}
    found.add("records", len(records))
    found.add("distinct queries", len({record.query.strip() for record in records}))
    found.add("distinct gold POIs", len({key for record in records for key in record.gold}))
    found.add("distinct POIs", len(passages))
    _add_spread(found, "candidates per record", [len(record.passages) for record in records])
    _add_spread(found, "positives per record", [len(record.positives) for record in records])
    same = [sum(p.key in record.gold for p in record.negatives) for record in records]
    found.add("negatives equal to a positive", sum(same))
    if sum(same):
        touched = sum(count > 0 for count in same)
        found.warnings.append(
            f"{sum(same):,} negatives in {touched:,} records equal a positive of theirs in text and coordinates: "
            "they count as gold and must not be trained as negatives."
        )
    twice = sum(len(record.passages) - len({p.key for p in record.passages}) for record in records)
    found.add("candidates repeated within a record", twice)
    unopposed = sum(not record.negatives for record in records)
    if unopposed:
        found.warnings.append(f"{unopposed:,} records have no negative passage.")
    _add_lengths(found, "query", [record.query for record in records])
    _add_lengths(found, "POI text", [p.text for p in passages.values()])
    _add_own_location(found, records)
    places = list(passages.values())
    lng, lat = np.array([p.lng for p in places]), np.array([p.lat for p in places])
    _add_extent(found, lng, lat)
    _add_datum_fact(found, _shift_m(lng, lat), datum)
    rows = _spread(len(records), seed, examples)
    found.examples = _numbered(pd.DataFrame([_example(records[row]) for row in rows]), rows)
    return found


def _inspect_queries(path: Path, seed: int, examples: int, datum: Datum) -> Inspection:
    rows = list(iter_json_lines(path))
    found = Inspection(path, "queries")
    places = [_own_place(row, f"{path}:{number}", datum) for number, row in rows]
    texts = [str(row["query"]) for _, row in rows]
    known = [place for place in places if place is not None]
    found.add("queries", len(texts))
    found.add("distinct queries", len({text.strip() for text in texts}))
    _add_lengths(found, "query", texts)
    found.add("queries with a location", len(known))
    if known:
        _add_extent(found, np.array([x for x, _ in known]), np.array([y for _, y in known]))
    chosen = _spread(len(rows), seed, examples)
    table = [{"query": texts[i], "lng": (places[i] or (None,))[0], "lat": (places[i] or (0, None))[1]} for i in chosen]
    found.examples = _numbered(pd.DataFrame(table), chosen)
    return found


def _own_place(row: dict[str, Any], where: str, datum: Datum) -> tuple[float, float] | None:
    """The place in a line of a query file: lng and lat, or the last element of query_gis."""
    query = row.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"expected a query, got {query!r}", where=f"{where}: query", hint="Fill or delete the line.")
    if row.get("lng") is not None or row.get("lat") is not None:
        return parse_lnglat(f"{row.get('lng')},{row.get('lat')}", f"{where}: lng, lat", datum)
    gis = row.get("query_gis")
    if isinstance(gis, list) and gis and isinstance(gis[-1], str) and gis[-1].strip():
        return parse_lnglat(gis[-1], f"{where}: query_gis", datum)
    return None


def _example(record: Record) -> dict[str, Any]:
    """One record as a row: the first positive, and how many candidates stand beside it."""
    gold = record.positives[0]
    away = None
    if record.lng is not None and record.lat is not None:
        away = round(float(haversine_m(record.lng, record.lat, gold.lng, gold.lat)) / 1000.0, 2)
    row = {"query": record.query, "positive": gold.text, "lng": gold.lng, "lat": gold.lat}
    return row | {"candidates": len(record.passages), "km to query": away}


def _add_texts(found: Inspection, name: str, texts: pd.Series, frame: pd.DataFrame) -> None:
    """Distinct texts, lengths, and texts that stand for several places."""
    stripped = texts.str.strip()
    places = frame[["lng", "lat"]].assign(text=stripped).drop_duplicates()
    shared = int((places.groupby("text").size() > 1).sum())
    label = name.replace(" ", "_")
    found.add(f"{name}: distinct", int(stripped.nunique()), key=f"{label}_distinct")
    found.add(f"{name}: shared by several places", shared, key=f"{label}_shared")
    _add_lengths(found, name, texts.tolist())


def _add_lengths(found: Inspection, name: str, texts: Iterable[str]) -> None:
    lengths = np.array([len(text) for text in texts])
    told = {"min": lengths.min(), "median": np.median(lengths), "p95": np.percentile(lengths, 95), "max": lengths.max()}
    label = name.replace(" ", "_")
    found.numbers |= {f"{label}_length_{key}": float(value) for key, value in told.items()}
    shown = ", ".join(f"{key} {value:.0f}" for key, value in told.items())
    found.facts.append((f"{name}: length", f"{shown} characters"))


def _add_spread(found: Inspection, name: str, counts: Sequence[int]) -> None:
    told = {"min": min(counts), "median": float(np.median(counts)), "max": max(counts)}
    label = name.replace(" ", "_")
    found.numbers |= {f"{label}_{key}": value for key, value in told.items()}
    found.facts.append((name, ", ".join(f"{key} {value:g}" for key, value in told.items())))


def _add_own_location(found: Inspection, records: Sequence[Record]) -> None:
    """How many queries say where they were typed, and how far that is from the nearest gold."""
    away = typed_m(records)
    away = away[~np.isnan(away)]
    found.add("queries with own location", len(away))
    if not len(away):
        return
    near, far = float((away <= NEAR_M).mean()), float((away > FAR_M).mean())
    found.numbers |= {"own_location_median_m": float(np.median(away)), "own_within_2km": near, "own_beyond_10km": far}
    shown = f"median {np.median(away) / 1000:.2f} km; within 2 km {near:.1%}, beyond 10 km {far:.1%}"
    found.facts.append(("own location to gold", shown))


def _add_extent(found: Inspection, lng: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
    """Ranges, extent in km, centre; warns of points that lie far from the bulk."""
    west, east, south, north = lng.min(), lng.max(), lat.min(), lat.max()
    middle_lng, middle_lat = float(np.median(lng)), float(np.median(lat))
    width = float(haversine_m(west, middle_lat, east, middle_lat)) / 1000.0
    height = float(haversine_m(middle_lng, south, middle_lng, north)) / 1000.0
    for name, low, high in (("lng", west, east), ("lat", south, north)):
        found.facts.append((name, f"{low:.6f} to {high:.6f}"))
        found.numbers |= {f"{name}_min": float(low), f"{name}_max": float(high)}
    found.facts.append(("extent", f"{width:.1f} km east-west, {height:.1f} km north-south"))
    found.facts.append(("centre (median)", f"{middle_lng:.6f}, {middle_lat:.6f}"))
    found.numbers |= {"width_km": width, "height_km": height, "centre_lng": middle_lng, "centre_lat": middle_lat}
    away = haversine_m(lng, lat, middle_lng, middle_lat)
    stray = away > CITY_KM * 1000.0
    if 0 < stray.sum() < len(lng) / 2:
        swapped_away = haversine_m(lat[stray], np.clip(lng[stray], -90.0, 90.0), middle_lng, middle_lat)
        nearer = int((swapped_away < CITY_KM * 1000.0).sum())
        what = f"{int(stray.sum()):,} places lie more than {CITY_KM:g} km from the centre"
        found.warnings.append(what + (f"; {nearer:,} of them look swapped (lat before lng)." if nearer else "."))
    at_zero = int(((lng == 0) & (lat == 0)).sum())
    if at_zero:
        found.warnings.append(f"{at_zero:,} places lie at (0, 0), where no POI is: unknown coordinates?")


def _add_datum(found: Inspection, raw: pd.DataFrame, datum: Datum) -> None:
    """Say which datum the table seems to be in: the geohash digits can tell, the coordinates alone cannot."""
    lng, lat = raw["lng"].to_numpy(float), raw["lat"].to_numpy(float)
    metres = _shift_m(lng, lat)
    digits = _digits(raw)
    if digits is None:
        _add_datum_fact(found, metres, datum)
        return
    fits = {"as they are": _share(lng, lat, digits)}
    if metres is not None:
        fits["after GCJ-02 -> WGS-84"] = _share(*gcj02_to_wgs84(lng, lat), digits)
        fits["after WGS-84 -> GCJ-02"] = _share(*wgs84_to_gcj02(lng, lat), digits)
    sound = fits["as they are"] >= 0.99
    shown = ", ".join(f"{share:.1%} {how}" for how, share in fits.items() if share or how == "as they are")
    found.facts.append(("geohash digits that fit the coordinates", shown))
    found.numbers["geohash_fit"] = fits["as they are"]
    best = max(fits, key=lambda how: fits[how])
    if not sound:
        told = f"{1 - fits['as they are']:.1%} of the rows have geohash digits that do not fit their coordinates"
        if best != "as they are" and fits[best] > 0.9:
            told += f"; they fit {best}: coordinates and digits are of different datums (shift about {metres:.0f} m)"
        found.warnings.append(f"{told}.")
    _add_datum_fact(found, metres, datum)


def _add_datum_fact(found: Inspection, metres: float | None, datum: Datum) -> None:
    """``metres``: how far GCJ-02 lies from WGS-84 there, None outside China."""
    told = "outside China: WGS-84 and GCJ-02 are the same there, no shift applies"
    if metres is not None:
        told = f"read as {datum}; which one it is cannot be told from the file alone"
        told += f" (GCJ-02 lies about {metres:.0f} m from WGS-84 there)"
    found.facts.append(("datum", told))
    found.numbers["gcj02_shift_m"] = metres


def _shift_m(lng: NDArray[np.float64], lat: NDArray[np.float64]) -> float | None:
    """Median metres by which GCJ-02 moves the places that lie in China; None if none does."""
    inside = in_china(lng, lat)
    if not inside.any():
        return None
    x, y = lng[inside], lat[inside]
    return float(np.median(haversine_m(x, y, *wgs84_to_gcj02(x, y))))


def _digits(raw: pd.DataFrame) -> NDArray[np.int64] | None:
    if not set(GEOHASH_COLUMNS) <= set(raw.columns):
        return None
    numbers = raw[GEOHASH_COLUMNS].apply(pd.to_numeric, errors="coerce").fillna(-1)
    return numbers.to_numpy(np.int64)


def _share(lng: NDArray[np.float64], lat: NDArray[np.float64], digits: NDArray[np.int64]) -> float:
    return float((geohash_digits(lng, lat, GEOHASH_LENGTH) == digits).all(axis=1).mean())


def _spread(total: int, seed: int, examples: int) -> list[int]:
    """Sorted row numbers from 0: one seeded row from each of ``examples`` equal stretches of the file."""
    count = min(max(examples, 0), total)
    edges = np.linspace(0, total, count + 1).astype(int)
    generator = np.random.default_rng(seed)
    return [int(generator.integers(low, high)) for low, high in pairwise(edges)]


def _numbered(frame: pd.DataFrame, rows: Sequence[int]) -> pd.DataFrame:
    frame = frame.reset_index(drop=True)
    if "row" not in frame.columns:
        frame.insert(0, "row", [row + 1 for row in rows])
    return frame


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
