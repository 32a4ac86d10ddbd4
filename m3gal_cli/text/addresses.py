"""Parse the address text of a POI, ``name,category,...,street,district``: the format of GeoTES and ``data osm``."""

from __future__ import annotations

import re
from typing import NamedTuple

# Version of the rules of ``data/schemas/address_text.py``. If one changes, increase it: indexes are then updated.
TEXT_VERSION = 1

_COMMA = re.compile(r"[,，]")
_MISSING = "[]"  # a missing part in GeoTES
_BRACKETS = re.compile(r"\s*[(（\[【][^()（）\[\]【】]*[)）\]】]")
_UP_TO_NUMBER = re.compile(r"^\D*\d+")
_LAST_NUMBER = re.compile(r"\s*\d+$")


class Address(NamedTuple):
    """The parts of an address text; a missing part is ""."""

    name: str
    categories: tuple[str, ...]  # coarse to fine
    street: str  # street and number, or a crossing
    district: str  # the last of at least three parts


class Surroundings(NamedTuple):
    """Parts of an address text by which POIs are grouped; a missing part is ""."""

    name: str
    brand: str  # the name without its brackets, if it has brackets
    compound: str  # the first later part with a digit, up to its first number: 东山路12号3楼 -> 东山路12
    crossing: str  # the compound without that number: 东山路, 东山路与西湖街路口西


def parse_address(text: str) -> Address:
    """Split an address text at its commas (, or ，): the name first, street and district last, categories between."""
    name, *others = _parts(text)
    others += [""] * (2 - len(others))
    *categories, street, district = ("" if part == _MISSING else part for part in others)
    return Address(name, tuple(filter(None, categories)), street, district)


def parse_surroundings(text: str) -> Surroundings:
    """Return name, brand, compound and crossing of an address text that begins with the name."""
    name, *others = _parts(text)
    brand = _BRACKETS.sub("", name).strip()
    compound = next((match.group() for part in others if (match := _UP_TO_NUMBER.match(part))), "")
    return Surroundings(name, brand if brand != name else "", compound, _LAST_NUMBER.sub("", compound))


def _parts(text: str) -> list[str]:
    return [part.strip() for part in _COMMA.split(text)]
