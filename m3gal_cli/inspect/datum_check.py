"""Does a table lie beside the map? Rows are matched by name to an extract, and what undoes the distance is looked for.

Offsets are metres east and north, from where a namesake lies in the extract to where the table has it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.data.records import read_records
from m3gal_cli.data.tables import parquet_twin, read_pois, read_views
from m3gal_cli.errors import InputError
from m3gal_cli.files import require_file
from m3gal_cli.geo.coordinates import Datum, Floats, haversine_m, local_metres, to_wgs84
from m3gal_cli.inspect.city_files import FACTS, POIS, RECORDS, VIEWS, is_extract, kind_of
from m3gal_cli.inspect.load_city import read_facts
from m3gal_cli.osm.extract import read_extract
from m3gal_cli.osm.places import distinct_places
from m3gal_cli.text.addresses import parts_of
from m3gal_cli.text.normalise import reads

MIN_MATCHES = 10
ELSEWHERE_M = 5_000.0  # no datum shifts as far: a namesake beyond this is another place
SAME_SPOT_M = 50.0  # rows of one name that lie farther apart are several places
LEAST_OFFSET_M = 20.0  # what two maps of one city differ by anyway
GAIN = 0.5  # a shift must at least halve the median distance to be believed
FITS_M = 10.0  # how much worse a datum may fit than the best constant offset, which has two parameters more
NAMES = {"gcj02": "GCJ-02", "bd09": "BD-09"}
DATUMS: tuple[Datum, ...] = ("wgs84", "gcj02", "bd09")
_POINTS = ("north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west")
Spots = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Shift:
    """What comparing a table with an extract tells.

    Attributes:
        against: The extract, or the table that stands for one.
        read_as: The datum in which the table is being read (``--datum``).
        matches: Names that stand for one place in the table and for one in the extract, and lie within reach.
        elsewhere: Such names that lie farther apart than any datum shifts; left out.
        median_m: Median metres between namesakes, by hypothesis: wgs84, gcj02 and bd09 (the table is in that datum)
            and constant (one fixed offset beside WGS-84). Empty where there are too few matches.
        east_m, north_m: The median offset of the table as it stands (read as WGS-84).
        spread_m: Median metres by which single offsets differ from that.
        verdict: few (too few matches), none (lies well), gcj02, bd09, or constant.
        words: The same as a sentence.
        suspicious: Whether the table, read as it is, lies beside the map.
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

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return asdict(self)


def compare(path: Path, against: Path, read_as: Datum = "wgs84", against_datum: Datum = "wgs84") -> Shift:
    """Compare the places of a table with those of the same names in an extract of the same city.

    Args:
        path: A view table, POI table, facts or candidate records.
        against: An extract, or facts or a POI table made from one.
        read_as: The datum in which the caller reads the table; the coordinates are judged as they stand in the file.
        against_datum: Of the extract.

    Raises:
        InputError: what the readers refuse; queries, which name no place.
    """
    table = _one_spot_each(_named_rows(path))
    names, lng, lat = _extract_names(against, against_datum)
    counts = Counter(names)
    unique = {name: (x, y) for name, x, y in zip(names, lng, lat, strict=True) if name and counts[name] == 1}
    shared = sorted(table.keys() & unique.keys())
    mine = np.array([table[name] for name in shared]).reshape(-1, 2)
    theirs = np.array([unique[name] for name in shared]).reshape(-1, 2)
    return _judge(mine, theirs, str(against), read_as)


def _judge(mine: Floats, theirs: Floats, against: str, read_as: Datum) -> Shift:
    """``mine``, ``theirs``: (N, 2) degrees of the same places, as the table and as the extract has them."""
    near = _metres(mine, theirs, "wgs84") <= ELSEWHERE_M
    elsewhere = int((~near).sum()) if near.sum() >= MIN_MATCHES else 0
    if elsewhere:
        mine, theirs = mine[near], theirs[near]
    count = len(mine)
    if count < MIN_MATCHES:
        words = f"only {count} names stand for one place both here and in {against}: too few to tell a shift "
        words += f"({MIN_MATCHES} are needed)"
        return Shift(against, read_as, count, elsewhere, {}, None, None, None, "few", words, False)
    median: dict[str, float] = {d: float(np.median(_metres(mine, theirs, d))) for d in DATUMS}
    east, north, median["constant"] = _offset(mine, theirs)
    verdict = _verdict(median, float(np.hypot(east, north)))
    right = verdict if verdict in DATUMS else "wgs84"
    misread = verdict == "constant" or median[read_as] - median[right] >= LEAST_OFFSET_M
    words = _words(verdict, median, (east, north), count, read_as)
    spread = median["constant"]
    return Shift(against, read_as, count, elsewhere, median, east, north, spread, verdict, words, misread)


def _metres(mine: Floats, theirs: Floats, datum: Datum) -> Floats:
    """Metres between places of the table, if it is in this datum, and those of the extract. Shape: (N, 2) -> (N,)."""
    lng, lat = to_wgs84(mine[:, 0], mine[:, 1], datum)
    return haversine_m(lng, lat, theirs[:, 0], theirs[:, 1])


def _offset(mine: Floats, theirs: Floats) -> tuple[float, float, float]:
    """Median metres east and north from theirs to mine, and the median metres by which single ones differ from that."""
    lng, lat = (float(degrees) for degrees in np.median(theirs, axis=0))
    one, other = (local_metres(spots[:, 0], spots[:, 1], lng, lat) for spots in (mine, theirs))
    middle = np.median(one - other, axis=0)
    spread = np.median(np.linalg.norm(one - other - middle, axis=1))
    return float(middle[0]), float(middle[1]), float(spread)


def _verdict(median: dict[str, float], away: float) -> str:
    """A shift is believed only if it halves the distance and is no smaller than what two maps differ by anyway."""
    if away < LEAST_OFFSET_M:
        return "none"
    datum = min(("gcj02", "bd09"), key=lambda name: median[name])
    believed = median["wgs84"] * GAIN
    if median[datum] <= believed and median[datum] <= median["constant"] + FITS_M:
        return datum
    return "constant" if median["constant"] <= believed else "none"


def _words(verdict: str, median: dict[str, float], offset: tuple[float, float], count: int, read_as: Datum) -> str:
    east, north = offset
    falls = f"the median distance to {count:,} namesakes falls from {median['wgs84']:.0f} m to"
    if verdict == "none":
        words = f"no shift seen: the median distance to {count:,} namesakes is {median['wgs84']:.0f} m"
        wrong = median[read_as] - median["wgs84"] >= LEAST_OFFSET_M
        return f"{words} in WGS-84; do not read it with --datum {read_as}" if wrong else words
    if verdict == "constant":
        point = _POINTS[round(float(np.degrees(np.arctan2(east, north))) / 45.0) % 8]
        words = f"lies {np.hypot(east, north):.0f} m to the {point} of the map by one fixed offset "
        words += f"({east:+.0f} m east, {north:+.0f} m north): without it {falls} {median['constant']:.0f} m; "
        return words + "no known datum explains it"
    words = f"looks like {NAMES[verdict]}: {falls} {median[verdict]:.0f} m; "
    return words + ("it is being read so" if verdict == read_as else f"read it with --datum {verdict}")


def _named_rows(path: Path) -> Iterable[tuple[str, float, float]]:
    """(reading, lng, lat) of a table as it stands in the file: of names, texts, and texts up to their first comma."""
    kind = kind_of(path)
    if kind == RECORDS:
        passages = {p.key: p for record in read_records(path) for p in record.passages}
        return [(key, p.lng, p.lat) for p in passages.values() for key in _readings(p.text)]
    if kind == FACTS:
        frame, texts = read_facts(path), ["name"]
    elif kind in (VIEWS, POIS):
        frame = read_views(path) if kind == VIEWS else read_pois(path)
        texts = ["address1", "address2"] if kind == VIEWS else ["address"]
        texts += [c for c in ("name",) if c in frame.columns]
    else:
        raise InputError("queries name no places that could be compared", where=path, hint="Compare a table of places.")
    return [row for text in texts for row in _rows_of(frame, text)]


def _rows_of(frame: pd.DataFrame, column: str) -> Iterable[tuple[str, float, float]]:
    for text, lng, lat in zip(frame[column], frame["lng"], frame["lat"], strict=True):
        if isinstance(text, str):
            for key in _readings(text):
                yield key, lng, lat


def _readings(text: str) -> set[str]:
    return {reads(text), reads(parts_of(text).name)} - {""}


def _one_spot_each(rows: Iterable[tuple[str, float, float]]) -> Spots:
    """The names that stand for one spot; those whose rows lie apart are several places, and left out."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for key, lng, lat in rows:
        found[key].append((lng, lat))
    spots = {}
    for key, points in found.items():
        lng, lat = points[0]
        spread = np.array(sorted(set(points)))
        if (haversine_m(spread[:, 0], spread[:, 1], lng, lat) <= SAME_SPOT_M).all():
            spots[key] = (lng, lat)
    return spots


def _extract_names(path: Path, datum: Datum) -> tuple[list[str], list[float], list[float]]:
    """The name of every place of an extract, as it reads, and its degrees in WGS-84."""
    if is_extract(path):
        places = [place for place in distinct_places(read_extract(path, datum)) if place.name]
        return [reads(p.name) for p in places], [p.lng for p in places], [p.lat for p in places]
    require_file(path, "extract")
    kind = kind_of(path)
    if kind == FACTS:
        frame = read_facts(path, datum)
    elif kind == POIS:
        twin = parquet_twin(path)
        frame = read_pois(twin if twin.is_file() else path, datum)
        if "name" not in frame.columns:
            frame = frame.assign(name=[parts_of(text).name for text in frame["address"]])
    else:
        hint = "Compare with an .osm.pbf extract, its facts or its POI table."
        raise InputError(f"is a file of {kind}, which is nothing to compare with", where=path, hint=hint)
    names = [reads(name) if isinstance(name, str) else "" for name in frame["name"]]
    return names, frame["lng"].tolist(), frame["lat"].tolist()
