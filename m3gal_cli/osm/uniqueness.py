"""Find the texts that only one place has. 64-bit hashes replace texts, so that a country fits in memory."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from m3gal_cli.osm.spatial_joins import Ints
from m3gal_cli.osm.views import View
from m3gal_cli.text.normalise import reading_key

AMBIGUOUS = -1  # the owner of a text that several places have
POI_ROW = 0  # the number of the POI row among the views of a place


class UniquenessIndex:
    """Collects the views of all places, then returns those that only one place has.

    Texts with equal 64-bit hashes count as equal. Among a billion texts, 0.03 such collisions are expected.
    """

    def __init__(self) -> None:
        self._text, self._content = array("q"), array("q")
        self._number, self._ends = array("H"), array("q", [0])

    def add(self, views: Iterable[tuple[int, View]]) -> None:
        """Add all views of the next place, each with its number (``POI_ROW`` for the POI row)."""
        for number, view in views:
            key = reading_key(view.text)
            self._text.append(hash(key) if len(key) > 1 else 0)
            self._content.append(hash(view.content))
            self._number.append(number)
        self._ends.append(len(self._number))

    def close(self) -> None:
        """Build the index after the last ``add``; the methods below need it."""
        texts, contents = np.array(self._text, np.int64), np.array(self._content, np.int64)
        self._numbers, self._offsets = np.array(self._number, np.uint16), np.array(self._ends, np.int64)
        self._text, self._content, self._number = array("q"), array("q"), array("H")
        place = np.repeat(np.arange(len(self._offsets) - 1), np.diff(self._offsets))
        self._texts, self._owners, text = _owners(texts, place)
        _, content_owners, content = _owners(contents, place)
        unique = (self._owners[text] != AMBIGUOUS) & (content_owners[content] != AMBIGUOUS) & (texts != 0)
        kept = unique | (self._numbers == POI_ROW)
        _, first = np.unique(np.stack([place, text], axis=1)[kept], axis=0, return_index=True)
        self._kept = np.zeros(len(place), bool)
        self._kept[np.flatnonzero(kept)[first]] = True  # each text of a place once, in the order of the views
        self._row_texts = np.unique(texts[self._numbers == POI_ROW])

    def counts(self) -> Ints:
        """Return the number of unique views of each place, shape (places,); see ``unique_views``."""
        return np.diff(np.r_[0, np.cumsum(self._kept)][self._offsets])

    def unique_views(self, place: int) -> list[int]:
        """Return the numbers of the views that only this place has, each text once; always with the POI row."""
        part = slice(self._offsets[place], self._offsets[place + 1])
        return [int(n) for n in self._numbers[part][self._kept[part]]]

    def is_poi_row(self, key: str) -> bool:
        """Return whether a POI row has this reading key."""
        return _position(self._row_texts, hash(key)) is not None

    def owner(self, key: str) -> int | None:
        """Return the place whose views have this reading key: ``AMBIGUOUS`` for several places, None for none."""
        text = _position(self._texts, hash(key))
        return None if text is None else int(self._owners[text])


def _position(ascending: Ints, value: int) -> int | None:
    """Return the position of a value in an ascending array, None if it is absent."""
    at = int(np.searchsorted(ascending, value))
    return at if at < len(ascending) and int(ascending[at]) == value else None


def _owners(hashes: Ints, place: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the distinct hashes ascending, the place of each or ``AMBIGUOUS``, and the position of each row."""
    if not len(hashes):
        return hashes, hashes, hashes
    order = np.argsort(hashes, kind="stable")
    starts = np.r_[True, np.diff(hashes[order]) != 0]
    number = np.empty(len(hashes), np.int64)
    number[order] = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    low, high = np.minimum.reduceat(place[order], first), np.maximum.reduceat(place[order], first)
    return hashes[order][first], np.where(low == high, low, AMBIGUOUS), number


def group_by_key(keys: Iterable[tuple[int, str]], places: int) -> Ints:
    """Group places that read the same: the connected components of places with equal keys.

    Args:
        keys: (place, reading key); empty keys are ignored.
        places: Number of places.

    Returns:
        (places,) for each place the number of the first place of its group.
    """
    rows, values = array("q"), array("q")
    for place, key in keys:
        if key:
            rows.append(place)
            values.append(hash(key))
    row = np.array(rows, np.int64)
    distinct, code = np.unique(np.array(values, np.int64), return_inverse=True)
    size = places + len(distinct)
    graph = coo_array((np.ones(len(row), np.int8), (row, places + code)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][:places]
    _, first, again = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[again], np.int64)
