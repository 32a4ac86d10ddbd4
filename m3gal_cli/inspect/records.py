"""Inspection of candidate records and query files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.records import FAR_M, NEAR_M, Record, distinct_passages, query_distances_m, read_records
from m3gal_cli.data.tables import iter_json_lines
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import parse_lnglat
from m3gal_cli.geo.datums import Datum
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.inspect.extent import add_datum, add_extent
from m3gal_cli.inspect.file_kinds import QUERIES, RECORDS
from m3gal_cli.inspect.inspection import Inspection, InspectOptions, spread_rows


def inspect_records(path: Path, options: InspectOptions) -> Inspection:
    """Inspect candidate records: queries, candidates per query, locations."""
    records = read_records(path, options.datum)
    inspection = Inspection(path, RECORDS)
    passages = distinct_passages(records)
    inspection.add("records", len(records))
    inspection.add("distinct queries", len({record.query.strip() for record in records}))
    inspection.add("distinct gold POIs", len({key for record in records for key in record.gold}))
    inspection.add("distinct POIs", len(passages))
    inspection.add_counts("candidates per record", [len(record.passages) for record in records])
    inspection.add_counts("positives per record", [len(record.positives) for record in records])
    _add_candidate_problems(inspection, records)
    inspection.add_lengths("query", [record.query for record in records])
    inspection.add_lengths("POI text", [p.text for p in passages])
    _add_query_distances(inspection, records)
    lng, lat = np.array([p.lng for p in passages]), np.array([p.lat for p in passages])
    add_extent(inspection, lng, lat)
    add_datum(inspection, lng, lat, options.datum)
    rows = spread_rows(len(records), options)
    inspection.set_examples(pd.DataFrame([_example(records[row]) for row in rows]), rows)
    return inspection


def inspect_queries(path: Path, options: InspectOptions) -> Inspection:
    """Inspect a query file: texts and query locations."""
    lines = list(iter_json_lines(path))
    inspection = Inspection(path, QUERIES)
    locations = [_query_location(row, f"{path}:{number}", options.datum) for number, row in lines]
    texts = [str(row["query"]) for _, row in lines]
    known = [location for location in locations if location is not None]
    inspection.add("queries", len(texts))
    inspection.add("distinct queries", len({text.strip() for text in texts}))
    inspection.add_lengths("query", texts)
    inspection.add("queries with a location", len(known))
    if known:
        add_extent(inspection, *np.array(known).T)
    rows = spread_rows(len(lines), options)
    shown = [(locations[row] or (None, None)) for row in rows]
    columns = {
        "query": [texts[row] for row in rows],
        "lng": [lng for lng, _ in shown],
        "lat": [lat for _, lat in shown],
    }
    inspection.set_examples(pd.DataFrame(columns), rows)
    return inspection


def _query_location(row: dict[str, Any], where: str, datum: Datum) -> tuple[float, float] | None:
    """Return (lng, lat) of a line of a query file, from lng and lat or the last element of query_gis."""
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
    """Return a record as an example row: query, first positive, number of candidates, distance to the query."""
    gold = record.positives[0]
    distance_km = None
    if record.lng is not None and record.lat is not None:
        distance_km = round(float(haversine_m(record.lng, record.lat, gold.lng, gold.lat)) / 1000.0, 2)
    row = {"query": record.query, "positive": gold.text, "lng": gold.lng, "lat": gold.lat}
    return row | {"candidates": len(record.passages), "km to query": distance_km}


def _add_candidate_problems(inspection: Inspection, records: Sequence[Record]) -> None:
    """Add negatives that equal a positive and repeated candidates; warn of these and of records without negatives."""
    false_negatives = [sum(p.key in record.gold for p in record.negatives) for record in records]
    total, affected = sum(false_negatives), sum(count > 0 for count in false_negatives)
    inspection.add("negatives equal to a positive", total)
    if total:
        inspection.warnings.append(
            f"{total:,} negatives in {affected:,} records equal a positive of the record in text and coordinates: "
            "they count as gold and must not be trained as negatives."
        )
    repeated = sum(len(record.passages) - len({p.key for p in record.passages}) for record in records)
    inspection.add("candidates repeated within a record", repeated)
    without = sum(not record.negatives for record in records)
    if without:
        inspection.warnings.append(f"{without:,} records have no negative passage.")


def _add_query_distances(inspection: Inspection, records: Sequence[Record]) -> None:
    """Add how many queries have a location, and its distance to the nearest gold POI."""
    distances = query_distances_m(records)
    distances = distances[~np.isnan(distances)]
    inspection.add("queries with a location", len(distances), key="queries_with_own_location")
    if not len(distances):
        return
    median = float(np.median(distances))
    near, far = float((distances <= NEAR_M).mean()), float((distances > FAR_M).mean())
    inspection.numbers |= {"own_location_median_m": median, "own_within_2km": near, "own_beyond_10km": far}
    text = f"median {median / 1000:.2f} km; within 2 km {near:.1%}, beyond 10 km {far:.1%}"
    inspection.facts.append(("query location to gold", text))
