"""What a data file holds: counts, texts, places with their views, candidates, suspected problems, as plain data.

Works on what ``data osm`` and ``data geotes`` make, whole folders included; the kind is told from columns and keys.
Distances are metres unless a name or a unit says kilometres; coordinates are (lng, lat) in degrees, WGS-84.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m3gal_cli.data.records import resolve_records
from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import Datum, check_datum
from m3gal_cli.inspect.city_files import FACTS, QUERIES, RECORDS, kind_of, main_file
from m3gal_cli.inspect.inspection import Inspection
from m3gal_cli.inspect.load_city import inspect_facts, load_city
from m3gal_cli.inspect.records import inspect_queries, inspect_records
from m3gal_cli.inspect.tables import inspect_table

__all__ = ["Inspection", "Look", "inspect_file"]


@dataclass(frozen=True)
class Look:
    """What to look at beside the counts.

    Attributes:
        seed: Chooses rows and places; the same seed shows the same ones.
        examples: Rows to show at most, spread over the file.
        datum: Of the coordinates of the file and of the tables beside it.
        places: Places to show at most with all their views; None for 20 where there are views, else none.
        place: The id of the one place to show instead.
        against: An extract, facts or POI table of the same city to compare the coordinates with.
        against_datum: Of that.
    """

    seed: int = 0
    examples: int = 10
    datum: Datum = "wgs84"
    places: int | None = None
    place: str | None = None
    against: Path | None = None
    against_datum: Datum = "wgs84"


DEFAULT_LOOK = Look()
PLACES = 20


def inspect_file(path: Path, look: Look = DEFAULT_LOOK) -> Inspection:
    """Read a file whole, validated as the commands would read it, and say what it holds.

    Args:
        path: A view table, a POI table, facts, candidate records (.jsonl, .pth), queries.jsonl, or the output folder of
            ``data osm``.
        look: What to look at.

    Raises:
        InputError: what the readers refuse, a map extract, a file of none of these kinds, an unknown place.
    """
    check_datum(look.datum)
    check_datum(look.against_datum)
    path = main_file(path) if path.is_dir() else resolve_records(path)
    kind = kind_of(path)
    if kind in (RECORDS, QUERIES):
        if look.place is not None:
            raise InputError(f"a file of {kind} shows no single place", where=path, hint="Name a table of places.")
        read = inspect_records if kind == RECORDS else inspect_queries
        found = read(path, look.seed, look.examples, look.datum)
    else:
        found = _inspect_places(path, kind, look)
    if look.against is not None:
        from m3gal_cli.inspect.datum_check import compare

        found.shift = compare(path, look.against, look.datum, look.against_datum)
        if found.shift.suspicious:
            found.warnings.append(f"{found.shift.words}.")
    return found


def _inspect_places(path: Path, kind: str, look: Look) -> Inspection:
    show = (look.seed, look.examples)
    if kind == FACTS:
        found, frame = inspect_facts(path, show, look.datum)
    else:
        found, frame = inspect_table(path, kind, show, look.datum)
    city = found.city = load_city(path, kind, frame, look.datum, found.warnings)
    found.shares = city.shares()
    if look.place is not None:
        found.places = [city.card(look.place)]
    else:
        wanted = look.places if look.places is not None else PLACES * city.has_views
        found.places = city.cards(city.choose(wanted, look.seed))
    return found
