"""Which kind of file a path is, and which files of the same city lie beside it."""

from __future__ import annotations

import csv
import zlib
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

from m3gal_cli.data.tables import iter_json_lines, read_frame
from m3gal_cli.errors import InputError
from m3gal_cli.files import open_text, require_file, suffix_of

VIEWS, POIS, FACTS = "view table", "POI table", "facts"
RECORDS, QUERIES = "candidate records", "queries"
EXTRACT_SUFFIXES = (".pbf", ".osm", ".osm.gz", ".osm.bz2", ".o5m")
FACTS_COLUMNS = frozenset({"poi_id", "name", "category", "lng", "lat"})
_STEMS = {VIEWS: "same_poi_views_", POIS: "poi_database_", FACTS: "facts_"}
_ENDS = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")  # a .parquet twin holds every column: it comes first


@dataclass(frozen=True)
class Siblings:
    """The tables of one city: the fullest form of each that is there, None where there is none."""

    views: Path | None = None
    pois: Path | None = None
    facts: Path | None = None


def is_extract(path: Path) -> bool:
    """Whether a path is called like a map extract."""
    return path.name.lower().endswith(EXTRACT_SUFFIXES)


def kind_of(path: Path) -> str:
    """Tell a file's kind by its suffix and its columns or keys. Raises InputError if it is of no known kind."""
    if is_extract(path):
        hint = "Turn it into a view table and a POI table first: m3gal data osm"
        raise InputError("is a map extract, not a table", where=path, hint=hint)
    require_file(path, "data file")
    suffix = suffix_of(path)
    if suffix == ".pth":
        return RECORDS
    columns = set(columns_of(path, suffix))
    if columns & {"positive_passages", "negative_passages"}:
        return RECORDS
    if columns & {"address1", "address2"}:
        return VIEWS
    if "address" in columns:
        return POIS
    if columns >= FACTS_COLUMNS:
        return FACTS
    if suffix == ".jsonl" and "query" in columns:
        return QUERIES
    expected = "address1, address2 (view table), address (POI table), poi_id, name, category (facts), or GeoTES keys"
    found = ", ".join(sorted(columns)) or "none"
    raise InputError(f"no known kind of file (its columns: {found})", where=path, hint=f"Expected {expected}.")


def columns_of(path: Path, suffix: str) -> list[str]:
    """The columns of a table, or the keys of the first line; without reading the rest where that can be had."""
    if suffix == ".jsonl":
        return list(next(iter_json_lines(path))[1])
    if suffix == ".csv":
        try:
            with open_text(path) as file:
                return [cell.strip() for cell in next(csv.reader(file), [])]
        except (OSError, EOFError, ValueError, zlib.error, csv.Error):
            pass  # the reader below says what is wrong
    if suffix == ".parquet":
        try:
            return list(pyarrow.parquet.read_schema(path).names)
        except (OSError, ValueError):
            pass
    return [str(column) for column in read_frame(path).columns]


def main_file(folder: Path) -> Path:
    """The table of a city in a folder that ``data osm`` wrote: the view table, else the POI table, else the facts.

    Raises:
        InputError: no such table there, or those of several cities.
    """
    found = {_after(path, stem) for path in folder.iterdir() for stem in _STEMS.values()}
    suffixes = sorted(found - {""})
    if not suffixes:
        hint = "Name a table, or a folder that m3gal data osm wrote."
        raise InputError("holds no same_poi_views_*, poi_database_* or facts_* table", where=folder, hint=hint)
    tables = [_main(folder, suffix) for suffix in suffixes]
    if len(tables) > 1:
        hint = f"Name one of their tables: {', '.join(map(str, tables))}"
        raise InputError(f"holds {len(tables)} cities: {', '.join(suffixes)}", where=folder, hint=hint)
    return tables[0]


def _main(folder: Path, suffix: str) -> Path:
    """The published .csv where there is one: it is what the other commands read."""
    ends = (*_ENDS[1:], _ENDS[0])
    return next(path for stem in _STEMS.values() for end in ends if (path := folder / f"{stem}{suffix}{end}").is_file())


def siblings(path: Path, kind: str) -> Siblings:
    """The tables of the city that a table belongs to by its name; the table alone where its name says no city."""
    suffix = _after(path, _STEMS[kind])
    if not suffix:
        return Siblings(*(path if kind == one else None for one in _STEMS))
    return Siblings(*(_fullest(path.parent, f"{stem}{suffix}") for stem in _STEMS.values()))


def _fullest(folder: Path, stem: str) -> Path | None:
    return next((path for end in _ENDS if (path := folder / f"{stem}{end}").is_file()), None)


def _after(path: Path, stem: str) -> str:
    """What follows ``stem`` in a table's name, "" where the name is another one."""
    for end in _ENDS:
        if path.name.startswith(stem) and path.name.endswith(end):
            return path.name[len(stem) : -len(end)]
    return ""
