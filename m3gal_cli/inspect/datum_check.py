"""Comparison of a table's coordinates with those of a map, to find a wrong datum or a constant offset.

Places are matched by name. The median distance of the matches decides between the datums and a constant offset.
Offsets are metres east and north, from the position on the map to the position in the table.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from m3gal_cli.data.poi_reader import PoiOptions, read_pois
from m3gal_cli.data.records import distinct_passages, read_records
from m3gal_cli.data.tables import parquet_twin, read_facts, read_views
from m3gal_cli.errors import InputError
from m3gal_cli.files import require_file
from m3gal_cli.geo.datums import Datum, to_wgs84
from m3gal_cli.geo.distances import Floats, haversine_m, local_metres
from m3gal_cli.inspect.file_kinds import FACTS, POIS, RECORDS, VIEWS, kind_of
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.place_deduplication import deduplicate_places
from m3gal_cli.poi_source import is_extract
from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.normalise import reading_key

MIN_MATCHES = 10
MAX_MATCH_M = 5_000.0  # larger than the offset of any datum; a farther match is another place of the same name
SAME_PLACE_M = 50.0  # rows of one name that lie farther apart are several places
MIN_OFFSET_M = 20.0  # two maps of one city differ by as much without any error
GAIN = 0.5  # a hypothesis is accepted only if it at least halves the median distance
DATUM_MARGIN_M = 10.0  # a datum may fit worse by this than a constant offset, which has two free parameters
DATUM_NAMES = {"gcj02": "GCJ-02", "bd09": "BD-09"}
DATUMS: tuple[Datum, ...] = ("wgs84", "gcj02", "bd09")
_COMPASS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")


@dataclass(frozen=True)
class DatumComparison:
    """Result of comparing the coordinates of a table with a map.

    Attributes:
        against: The extract, facts or POI table that served as map.
        read_as: The datum in which the table is read (``--datum``).
        matches: Number of names that belong to one place in the table and one on the map, at most 5 km apart.
        elsewhere: Number of such names farther apart, which are excluded.
        median_m: Median distance in metres of the matches, by hypothesis: the table is in wgs84, gcj02 or bd09, or in
            wgs84 with a constant offset ("constant"). Empty if there are too few matches.
        east_m: Median offset east of the table, read as WGS-84.
        north_m: Median offset north of the table, read as WGS-84.
        spread_m: Median distance in metres of single offsets from the median offset.
        verdict: few (too few matches), none (no offset), gcj02, bd09 or constant.
        words: The verdict as a sentence.
        suspicious: Whether the table, read as ``read_as``, is offset from the map.
    """

    against: str
    read_as: Datum
    matches: int
    elsewhere: int
    median_m: dict[str, float]
    east_m: float | None
    north_m: float | None
    spread_m: float | None
    verdict: str
    words: str
    suspicious: bool


def compare_coordinates(
    path: Path,
    against: Path,
    read_as: Datum = "wgs84",
    against_datum: Datum = "wgs84",
    columns: str | None = None,
) -> DatumComparison:
    """Compare the coordinates of a table with those of a map of the same city.

    Args:
        path: A view table, POI table, facts table or candidate records.
        against: The map: an extract, or facts or a POI table made from one.
        read_as: The datum in which the caller reads the table. The comparison uses the unconverted coordinates.
        against_datum: Datum of ``against``.
        columns: Columns of ``path`` by role, if it is a POI table.

    Raises:
        InputError: A file is invalid, or ``path`` holds queries, which have no place names.
    """
    table = _unique_places(_named_coordinates(path, columns))
    names, lng, lat = _map_names(against, against_datum)
    counts = Counter(names)
    unique = {name: (x, y) for name, x, y in zip(names, lng, lat, strict=True) if name and counts[name] == 1}
    shared = sorted(table.keys() & unique.keys())
    table_points = np.array([table[name] for name in shared]).reshape(-1, 2)
    map_points = np.array([unique[name] for name in shared]).reshape(-1, 2)
    return _compare(table_points, map_points, str(against), read_as)


def _compare(table: Floats, on_map: Floats, against: str, read_as: Datum) -> DatumComparison:
    """Compare matched points in degrees. Shape: table: (N, 2); on_map: (N, 2)."""
    near = _distances_m(table, on_map, "wgs84") <= MAX_MATCH_M
    elsewhere = int((~near).sum()) if near.sum() >= MIN_MATCHES else 0
    if elsewhere:
        table, on_map = table[near], on_map[near]
    count = len(table)
    if count < MIN_MATCHES:
        words = f"only {count} names belong to exactly one place both here and in {against}: too few to detect an "
        words += f"offset ({MIN_MATCHES} are needed)"
        return DatumComparison(against, read_as, count, elsewhere, {}, None, None, None, "few", words, False)
    median: dict[str, float] = {datum: float(np.median(_distances_m(table, on_map, datum))) for datum in DATUMS}
    east, north, median["constant"] = _median_offset(table, on_map)
    verdict = _verdict(median, float(np.hypot(east, north)))
    right = verdict if verdict in DATUMS else "wgs84"
    suspicious = verdict == "constant" or median[read_as] - median[right] >= MIN_OFFSET_M
    words = _sentence(verdict, median, (east, north), count, read_as)
    spread = median["constant"]
    return DatumComparison(against, read_as, count, elsewhere, median, east, north, spread, verdict, words, suspicious)


def _distances_m(table: Floats, on_map: Floats, datum: Datum) -> Floats:
    """Return metres between matched points if the table is in ``datum``. Shape: (N, 2), (N, 2) -> (N,)."""
    lng, lat = to_wgs84(table[:, 0], table[:, 1], datum)
    return haversine_m(lng, lat, on_map[:, 0], on_map[:, 1])


def _median_offset(table: Floats, on_map: Floats) -> tuple[float, float, float]:
    """Return the median metres east and north, and the median distance of single offsets from that median."""
    lng, lat = (float(degrees) for degrees in np.median(on_map, axis=0))
    table_m, map_m = (local_metres(points[:, 0], points[:, 1], lng, lat) for points in (table, on_map))
    median = np.median(table_m - map_m, axis=0)
    spread = np.median(np.linalg.norm(table_m - map_m - median, axis=1))
    return float(median[0]), float(median[1]), float(spread)


def _verdict(median: dict[str, float], offset_m: float) -> str:
    """Return the datum or offset that at least halves the median distance, else none."""
    if offset_m < MIN_OFFSET_M:
        return "none"
    datum = min(("gcj02", "bd09"), key=lambda name: median[name])
    accepted = median["wgs84"] * GAIN
    if median[datum] <= accepted and median[datum] <= median["constant"] + DATUM_MARGIN_M:
        return datum
    return "constant" if median["constant"] <= accepted else "none"


def _sentence(verdict: str, median: dict[str, float], offset: tuple[float, float], count: int, read_as: Datum) -> str:
    east, north = offset
    falls = f"the median distance to {count:,} places of the same name falls from {median['wgs84']:.0f} m to"
    if verdict == "none":
        text = f"no offset found: the median distance to {count:,} places of the same name is {median['wgs84']:.0f} m"
        wrong = median[read_as] - median["wgs84"] >= MIN_OFFSET_M
        return f"{text} in WGS-84; do not read the table with --datum {read_as}" if wrong else text
    if verdict == "constant":
        point = _COMPASS[round(float(np.degrees(np.arctan2(east, north))) / 45.0) % 8]
        text = f"is offset by a constant {np.hypot(east, north):.0f} m to the {point} of the map "
        text += f"({east:+.0f} m east, {north:+.0f} m north): without it {falls} {median['constant']:.0f} m; "
        return text + "no known datum explains it"
    text = f"looks like {DATUM_NAMES[verdict]}: {falls} {median[verdict]:.0f} m; "
    return text + (
        f"it is already read with --datum {verdict}" if verdict == read_as else f"read it with --datum {verdict}"
    )


def _named_coordinates(path: Path, columns_option: str | None) -> Iterable[tuple[str, float, float]]:
    """Return (name, lng, lat), unconverted. Names are the column name, whole texts, and texts up to the first comma."""
    kind = kind_of(path, columns_option)
    if kind == RECORDS:
        passages = distinct_passages(read_records(path))
        return [(name, p.lng, p.lat) for p in passages for name in _names(p.text)]
    if kind == FACTS:
        frame, columns = read_facts(path), ["name"]
    elif kind in (VIEWS, POIS):
        frame = read_views(path) if kind == VIEWS else read_pois(path, PoiOptions(columns=columns_option))
        columns = ["address1", "address2"] if kind == VIEWS else ["address"]
        columns += [column for column in ("name",) if column in frame.columns]
    else:
        hint = "Compare a view table, POI table, facts table or candidate records."
        raise InputError("queries have no place names to compare", where=path, hint=hint)
    return [
        (name, lng, lat)
        for column in columns
        for text, lng, lat in zip(frame[column], frame["lng"], frame["lat"], strict=True)
        if isinstance(text, str)
        for name in _names(text)
    ]


def _names(text: str) -> set[str]:
    return {reading_key(text), reading_key(parse_address(text).name)} - {""}


def _unique_places(rows: Iterable[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """Return (lng, lat) by name, without the names whose rows lie too far apart to be one place."""
    points_of: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for name, lng, lat in rows:
        points_of[name].append((lng, lat))
    unique = {}
    for name, points in points_of.items():
        lng, lat = points[0]
        others = np.array(sorted(set(points)))
        if (haversine_m(others[:, 0], others[:, 1], lng, lat) <= SAME_PLACE_M).all():
            unique[name] = (lng, lat)
    return unique


def _map_names(path: Path, datum: Datum) -> tuple[list[str], list[float], list[float]]:
    """Return the normalised name, lng and lat (WGS-84) of every place of a map; "" for a place without a name."""
    if is_extract(path):
        places = [place for place in deduplicate_places(read_extract(path, datum)) if place.name]
        return [reading_key(p.name) for p in places], [p.lng for p in places], [p.lat for p in places]
    require_file(path, "extract")
    kind = kind_of(path)
    if kind == FACTS:
        frame = read_facts(path, datum)
    elif kind == POIS:
        twin = parquet_twin(path)
        frame = read_pois(twin if twin.is_file() else path, PoiOptions(datum))
        if "name" not in frame.columns:
            frame = frame.assign(name=[parse_address(text).name for text in frame["address"]])
    else:
        hint = "Compare with an .osm.pbf extract, a facts table or a POI table."
        raise InputError(f"coordinates cannot be compared with {kind}", where=path, hint=hint)
    names = [reading_key(name) if isinstance(name, str) else "" for name in frame["name"]]
    return names, frame["lng"].tolist(), frame["lat"].tolist()
