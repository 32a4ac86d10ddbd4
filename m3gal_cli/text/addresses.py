"""The parts of a POI row: ``name,kind,...,where,district``, as map databases write it (GeoTES; ``data osm`` too)."""

from __future__ import annotations

import re
from typing import NamedTuple

_COMMA = re.compile(r"[,，]")
_EMPTY = ("", "[]")  # GeoTES writes a missing street so


class Parts(NamedTuple):
    """What a row says, "" where it says nothing: ``name``, ``kinds`` coarse to fine, ``where`` (street and number, a
    crossing ...) and ``district``, which is not said of a row of less than three parts.
    """

    name: str
    kinds: tuple[str, ...]
    where: str
    district: str


def parts_of(address: str) -> Parts:
    """The name stands before the first comma (, or ，), the last two of the others tell where it is."""
    name, *others = (part.strip() for part in _COMMA.split(address))
    kinds = tuple(kind for kind in others[:-2] if kind not in _EMPTY)
    where, district = ([*others, ""] if len(others) < 2 else others[-2:])[:2] if others else ("", "")
    return Parts(name, kinds, "" if where in _EMPTY else where, "" if district in _EMPTY else district)
