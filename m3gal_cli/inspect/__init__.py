"""Inspection of data files: counts, text lengths, extent, places with their views, and suspected problems.

The input is a file or folder that ``data osm`` or ``data geotes`` writes; columns and keys determine its kind.
Distances are metres unless a name or unit says kilometres; coordinates are (lng, lat) in degrees, WGS-84.
"""

from __future__ import annotations

from pathlib import Path

from m3gal_cli.compat.legacy_pickle import resolve_dataset
from m3gal_cli.data.formats import part_files
from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import check_datum
from m3gal_cli.inspect.city_tables import load_city
from m3gal_cli.inspect.file_kinds import FACTS, QUERIES, RECORDS, city_name, kind_of, main_file
from m3gal_cli.inspect.inspection import Inspection, InspectOptions
from m3gal_cli.inspect.records import inspect_queries, inspect_records
from m3gal_cli.inspect.tables import inspect_facts, inspect_table

__all__ = ["InspectOptions", "Inspection", "inspect_file"]

DEFAULT_OPTIONS = InspectOptions()
DEFAULT_PLACES = 20


def inspect_file(path: Path, options: InspectOptions = DEFAULT_OPTIONS) -> Inspection:
    """Read and validate a whole file and return statistics, examples and warnings.

    Args:
        path: A view table, POI table, facts table, candidate records (.jsonl, .pth), queries.jsonl, or the output
            folder of ``data osm``.
        options: Options of the inspection.

    Raises:
        InputError: The file is invalid, a map extract, or of unknown kind; ``options.place`` does not exist.
    """
    check_datum(options.datum)
    check_datum(options.against_datum)
    if not path.is_dir():
        path = resolve_dataset(path)
    elif not part_files(path) or any(city_name(file) for file in path.iterdir()):
        path = main_file(path)
    kind = kind_of(path, options.columns)
    if kind in (RECORDS, QUERIES):
        if options.place is not None:
            hint = "Omit --place, or give a view table, POI table or facts table."
            raise InputError(f"--place does not apply to {kind}", where=path, hint=hint)
        inspection = (inspect_records if kind == RECORDS else inspect_queries)(path, options)
    else:
        inspection = _inspect_places(path, kind, options)
    if options.against is not None:
        from m3gal_cli.inspect.datum_check import compare_coordinates  # osmium and shapely are slow to import

        comparison = compare_coordinates(path, options.against, options.datum, options.against_datum, options.columns)
        inspection.datum_comparison = comparison
        if comparison.suspicious:
            inspection.warnings.append(f"{comparison.words}.")
    return inspection


def _inspect_places(path: Path, kind: str, options: InspectOptions) -> Inspection:
    """Inspect a table of places, and join it with the other tables of its city."""
    inspection, frame = inspect_facts(path, options) if kind == FACTS else inspect_table(path, kind, options)
    city = inspection.city = load_city(path, kind, frame, options.datum, inspection.warnings)
    inspection.fact_coverage = city.fact_coverage()
    if options.place is not None:
        inspection.places = [city.place(options.place)]
    else:
        count = options.places if options.places is not None else DEFAULT_PLACES * city.has_views
        inspection.places = city.details(city.sample(count, options.seed))
    return inspection
