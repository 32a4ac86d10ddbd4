"""What candidate records and query files hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.records import FAR_M, NEAR_M, Record, read_records, typed_m
from m3gal_cli.data.tables import iter_json_lines
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import Datum, haversine_m, parse_lnglat
from m3gal_cli.inspect.city_files import QUERIES, RECORDS
from m3gal_cli.inspect.extent import add_datum_fact, add_extent, shift_m
from m3gal_cli.inspect.inspection import Inspection, add_lengths, numbered, spread_rows


def inspect_records(path: Path, seed: int, examples: int, datum: Datum) -> Inspection:
    """What candidate records hold: queries, candidates, where they lie."""
    records = read_records(path, datum)
    found = Inspection(path, RECORDS)
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
    add_lengths(found, "query", [record.query for record in records])
    add_lengths(found, "POI text", [p.text for p in passages.values()])
    _add_own_location(found, records)
    places = list(passages.values())
    lng, lat = np.array([p.lng for p in places]), np.array([p.lat for p in places])
    add_extent(found, lng, lat)
    add_datum_fact(found, shift_m(lng, lat), datum)
    rows = spread_rows(len(records), seed, examples)
    found.examples = numbered(pd.DataFrame([_example(records[row]) for row in rows]), rows)
    return found


def inspect_queries(path: Path, seed: int, examples: int, datum: Datum) -> Inspection:
    """What a file of queries holds: texts, and where they were typed."""
    rows = list(iter_json_lines(path))
    found = Inspection(path, QUERIES)
    places = [_own_place(row, f"{path}:{number}", datum) for number, row in rows]
    texts = [str(row["query"]) for _, row in rows]
    known = [place for place in places if place is not None]
    found.add("queries", len(texts))
    found.add("distinct queries", len({text.strip() for text in texts}))
    add_lengths(found, "query", texts)
    found.add("queries with a location", len(known))
    if known:
        add_extent(found, np.array([x for x, _ in known]), np.array([y for _, y in known]))
    chosen = spread_rows(len(rows), seed, examples)
    table = [{"query": texts[i], "lng": (places[i] or (None,))[0], "lat": (places[i] or (0, None))[1]} for i in chosen]
    found.examples = numbered(pd.DataFrame(table), chosen)
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
