"""Read a POI table as an extract: each row is a place with tags from its address text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from m3gal_cli.data.duplicates import first_by_key, place_key
from m3gal_cli.data.poi_reader import Log, PoiOptions, read_pois
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.locales import POI_KIND, Locale
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.views import View, ViewPart
from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.normalise import reading_key

FULL_ADDRESS = "addr:full"
UNKNOWN = "kind"  # category key of a row whose category words are not in the locale


def read_poi_table(path: Path, options: PoiOptions, log: Log) -> Extract:
    """Return the rows of a POI table as places, without rows that repeat text and coordinates of another.

    Raises:
        InputError: As ``read_pois`` does.
    """
    pois = read_pois(path, options, log)
    rows = zip(*(pois[name].tolist() for name in ("poi_id", "address", "lng", "lat")), strict=True)
    places = []
    for poi_id, text, lng, lat in first_by_key(rows, lambda row: place_key(*row[1:])):
        address = parse_address(text)
        tags = {"name": address.name, FULL_ADDRESS: address.street, "addr:district": address.district}
        tags = {k: v for k, v in tags.items() if v}
        places.append(Place(str(poi_id), tags, (UNKNOWN, "".join(address.categories[-1:])), lng, lat, text))
    return Extract(places)


def localise(places: Sequence[Place], locale: Locale) -> list[Place]:
    """Return the places with the OSM categories of their category words in a locale.

    The street of a row becomes addr:full if the locale has views of whole addresses, else addr:street.
    """
    words = [parse_address(place.row).categories for place in places]
    categories = {own: locale.category_of(own) for own in set(words)}
    key = FULL_ADDRESS if locale.uses_slot("told") else "addr:street"
    return [
        replace(
            place,
            category=categories[own] or place.category,
            tags={key if k == FULL_ADDRESS else k: v for k, v in place.tags.items()},
        )
        for place, own in zip(places, words, strict=True)
    ]


def row_view(row: str) -> View:
    """Return the address text of a row as the view of the POI row."""
    address = parse_address(row)
    slots = {
        "name": address.name,
        "words": ",".join(address.categories),
        "where": address.street,
        "district": address.district,
    }
    parts = tuple(ViewPart(slot, text, reading_key(text)) for slot, text in slots.items() if text)
    return View(POI_KIND, parts, ",", row, tuple(sorted(part.key for part in parts)), 0.0)
