"""Detection of a file's kind, and of the other tables of the same city in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3gal_cli.data.formats import open_table
from m3gal_cli.data.schemas import UnknownSchema
from m3gal_cli.data.tables import FACTS_COLUMNS, iter_json_lines
from m3gal_cli.errors import InputError
from m3gal_cli.files import require_file, suffix_of
from m3gal_cli.poi_source import is_extract, open_pois

VIEWS, POIS, FACTS = "view table", "POI table", "facts"
RECORDS, QUERIES = "candidate records", "queries"
_STEMS = {VIEWS: "same_poi_views_", POIS: "poi_database_", FACTS: "facts_"}
_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")  # .parquet first: that twin holds every column


@dataclass(frozen=True)
class CityFiles:
    """Paths of the tables of one city; None for a table that does not exist."""

    views: Path | None = None
    pois: Path | None = None
    facts: Path | None = None


def kind_of(path: Path, columns_option: str | None = None) -> str:
    """Return the kind of a file, from its suffix and its columns or keys.

    ``columns_option`` is the value of ``--columns``, which makes the file a POI table. Raises InputError for an unknown
    kind.
    """
    if is_extract(path):
        hint = "Build a view table and a POI table first: m3gal data osm"
        raise InputError("the file is a map extract, not a table", where=path, hint=hint)
    if not path.is_dir():
        require_file(path, "data file")
    suffix = suffix_of(path)
    if suffix == ".pth":
        return RECORDS
    columns = set(columns_of(path, suffix))
    if columns & {"positive_passages", "negative_passages"}:
        return RECORDS
    if columns & {"address1", "address2"}:
        return VIEWS
    if columns_option is not None or "address" in columns:
        return POIS
    if columns.issuperset((*FACTS_COLUMNS, "crossing_a")):  # a POI table may have the others
        return FACTS
    if suffix == ".jsonl" and "query" in columns:
        return QUERIES
    if _is_poi_table(path):
        return POIS
    expected = "address1, address2 (view table), address (POI table), poi_id, name, category (facts), or GeoTES keys"
    names = ", ".join(sorted(columns)) or "none"
    raise InputError(f"unknown kind of file (its columns: {names})", where=path, hint=f"Expected {expected}.")


def columns_of(path: Path, suffix: str) -> list[str]:
    """Return the columns of a table, or the keys of the first line. Raises InputError."""
    if suffix == ".jsonl":
        return list(next(iter_json_lines(path))[1])
    with open_table(path) as table:
        return table.columns


def _is_poi_table(path: Path) -> bool:
    """Return whether a table has texts and coordinates. Raises InputError if there are two readings of it."""
    try:
        with open_pois(path):
            return True
    except UnknownSchema:
        return False


def main_file(folder: Path) -> Path:
    """Return the main table in an output folder of ``data osm``: the view table, else the POI table, else the facts.

    Among several formats of a table the published .csv is preferred, as the other commands read it.

    Raises:
        InputError: The folder holds no such table, or those of several cities.
    """
    cities = sorted({city_name(path) for path in folder.iterdir()} - {""})
    if not cities:
        hint = "Give a table, or a folder that m3gal data osm wrote."
        raise InputError("holds no same_poi_views_*, poi_database_* or facts_* table", where=folder, hint=hint)
    suffixes = (*_SUFFIXES[1:], _SUFFIXES[0])
    tables = [
        next(path for stem in _STEMS.values() if (path := _first_file(folder, f"{stem}{city}", suffixes)))
        for city in cities
    ]
    if len(tables) > 1:
        hint = f"Give one of their tables: {', '.join(map(str, tables))}"
        raise InputError(f"holds {len(tables)} cities: {', '.join(cities)}", where=folder, hint=hint)
    return tables[0]


def city_files(path: Path, kind: str) -> CityFiles:
    """Return the tables of the city in the name of a table; only the table itself if its name has no city."""
    city = _city_name(path, _STEMS[kind])
    if not city:
        return CityFiles(*(path if kind == other else None for other in _STEMS))
    return CityFiles(*(_first_file(path.parent, f"{stem}{city}", _SUFFIXES) for stem in _STEMS.values()))


def city_name(path: Path) -> str:
    """Return the city in the file name of a table that ``data osm`` wrote; "" for other names."""
    return next(filter(None, (_city_name(path, stem) for stem in _STEMS.values())), "")


def _first_file(folder: Path, stem: str, suffixes: tuple[str, ...]) -> Path | None:
    return next((path for suffix in suffixes if (path := folder / f"{stem}{suffix}").is_file()), None)


def _city_name(path: Path, stem: str) -> str:
    """Return the part of a table's name between ``stem`` and the suffix; "" if the name does not match."""
    for suffix in _SUFFIXES:
        if path.name.startswith(stem) and path.name.endswith(suffix):
            return path.name[len(stem) : -len(suffix)]
    return ""
