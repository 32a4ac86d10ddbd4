"""Queries that name a place beside the POI: "pharmacy opposite Star Square", 星光广场对面的药店."""

from __future__ import annotations

from rapidfuzz.distance import Prefix

from m3gal_cli.data.query_styles.source import Made, Source, beginning
from m3gal_cli.data.query_styles.table import NEIGHBOUR_M, plain, stem
from m3gal_cli.data.query_styles.words import RELATIONS

CATEGORY_M = 300.0  # between the other place and all POIs of a category
PARTIAL_SHARE = 0.2  # of references to the beginning of the other name
MAX_ANCHORS = 30  # rows of the other place


def by_name(source: Source) -> Made | None:
    """Return the name and a place beside it."""
    return _beside(source, source.name, source.same)


def by_part(source: Source) -> Made | None:
    """Return the beginning of the name and a place beside it."""
    text = beginning(source.name, source.rng)
    return _beside(source, text, source.table.starting(text)) if text else None


def by_category(source: Source) -> Made | None:
    """Return the category and a place beside it; the gold are all POIs of the category there."""
    word = source.category
    return _beside(source, word, None) if word else None


def by_street(source: Source) -> Made | None:
    """Return the beginning of the name, and the street that it is at or near."""
    text, street = beginning(source.name, source.rng), stem(source.poi.street)
    if not text or not street or _alike(plain(text), plain(street)):
        return None
    return _wording(source, street, text), source.table.having(source.table.starting(text), street)


def _wording(source: Source, other: str, text: str) -> str:
    wordings = next(wordings for letters, wordings in RELATIONS if letters.search(text + other))
    return source.rng.choice(wordings).format(x=other, y=text)


def _beside(source: Source, text: str, rows: set[int] | None) -> Made | None:
    """Return a reference to a POI by a neighbour.

    Args:
        source: The POI.
        text: Its name, a part of it, or its category.
        rows: The rows that the text fits; None: those of the category within ``CATEGORY_M`` of the neighbour.
    """
    table, rng = source.table, source.rng
    neighbours = table.neighbours(source.row)
    if not neighbours:
        return None
    other = table.poi(rng.choice(neighbours)).name
    part = beginning(other, rng) if rng.random() < PARTIAL_SHARE else ""
    anchors = table.starting(part) if part else table.exactly(other)
    if len(anchors) > MAX_ANCHORS or _alike(plain(text), plain(other)):
        return None
    compared = table.around(anchors, CATEGORY_M) - anchors if rows is None else rows
    gold = table.of_category(compared, text) if rows is None else table.beside(rows, anchors, NEIGHBOUR_M)
    if gold & anchors:
        return None
    return _wording(source, part or other, text), gold


def _alike(a: str, b: str) -> bool:
    """Return whether two plain texts are too similar for one query: two house numbers, two doors of a house."""
    numbers = a.isascii() and b.isascii() and any(map(str.isdigit, a)) and any(map(str.isdigit, b))
    return numbers or a in b or b in a or 2 * int(Prefix.similarity(a, b)) >= min(len(a), len(b))
