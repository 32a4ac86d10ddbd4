"""A POI table in the place of an extract: each row is a place, told by its own words and by the rows around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from m3gal_cli.data.records import poi_key
from m3gal_cli.data.tables import read_pois
from m3gal_cli.geo.coordinates import Datum
from m3gal_cli.osm.extract import Extract
from m3gal_cli.osm.locales import Locale
from m3gal_cli.osm.places import Place
from m3gal_cli.osm.views import FULL, Piece, View
from m3gal_cli.text.addresses import parts_of
from m3gal_cli.text.normalise import reads

WHERE = "addr:full"
UNKNOWN = "kind"  # key of the category of a row whose kinds the locale does not know


def read_rows(path: Path, datum: Datum = "wgs84") -> Extract:
    """The places of a POI table, of rows equal in text and coordinates the first; there are no roads and no areas.

    Raises InputError as ``read_pois`` does.
    """
    pois = read_pois(path, datum)
    places, seen = [], set()
    columns = (pois[name].tolist() for name in ("poi_id", "address", "lng", "lat"))
    for poi_id, address, lng, lat in zip(*columns, strict=True):
        key = poi_key(address, lng, lat)
        if key not in seen:
            seen.add(key)
            parts = parts_of(address)
            tags = {"name": parts.name, WHERE: parts.where, "addr:district": parts.district}
            tags = {k: v for k, v in tags.items() if v}
            places.append(Place(str(poi_id), tags, (UNKNOWN, "".join(parts.kinds[-1:])), lng, lat, address))
    return Extract(places)


def in_locale(places: Sequence[Place], locale: Locale) -> list[Place]:
    """The places with the OSM categories that their kinds mean in a locale; kinds that it does not know stay.

    Where they stand is their street in a locale that has no views for whole addresses.
    """
    kinds = [parts_of(place.row).kinds for place in places]
    known = {own: locale.category_of(own) for own in set(kinds)}
    where = WHERE if locale.tells("told") else "addr:street"
    return [
        replace(p, category=known[own] or p.category, tags={where if k == WHERE else k: v for k, v in p.tags.items()})
        for p, own in zip(places, kinds, strict=True)
    ]


def row_view(row: str) -> View:
    """A POI row as the view that all others lead to."""
    parts = parts_of(row)
    said = {"name": parts.name, "words": ",".join(parts.kinds), "where": parts.where, "district": parts.district}
    pieces = tuple(Piece(field, text, reads(text)) for field, text in said.items() if text)
    return View(FULL, pieces, ",", row, tuple(sorted(piece.key for piece in pieces)), 0.0)
