"""Which texts and descriptions belong to one place alone. Holds 64-bit hashes, not texts: a country fits in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from m3gal_cli.osm.views import View

NOBODY = -1  # the owner of a text that fits several places
ROW = 0  # the number of the POI row among the views of a place
Ints = NDArray[np.int64]


class UniquenessIndex:
    """Counts the views of all places, then tells which fit one place only.

    Two texts are taken for one if their 64-bit hashes are equal: a billion texts give 0.03 such accidents.

    Args:
        reads: What a text reads as; equal results cannot be told apart.
    """

    def __init__(self, reads: Callable[[str], str]) -> None:
        self.reads = reads
        self._reading, self._key = array("q"), array("q")
        self._number, self._ends = array("H"), array("q", [0])

    def add(self, views: Iterable[tuple[int, View]]) -> None:
        """Take in all views of the next place, each with its number (``ROW`` for the POI row)."""
        for number, view in views:
            reading = self.reads(view.text)
            self._reading.append(hash(reading) if len(reading) > 1 else 0)
            self._key.append(hash(view.key))
            self._number.append(number)
        self._ends.append(len(self._number))

    def close(self) -> None:
        """Count. From now on the questions below have answers."""
        reading, key = np.array(self._reading, np.int64), np.array(self._key, np.int64)
        self._numbers, self._offsets = np.array(self._number, np.uint16), np.array(self._ends, np.int64)
        self._reading, self._key, self._number = array("q"), array("q"), array("H")
        place = np.repeat(np.arange(len(self._offsets) - 1), np.diff(self._offsets))
        self._texts, self._owners, text = _owners(reading, place)
        _, key_owners, told = _owners(key, place)
        alone = (self._owners[text] != NOBODY) & (key_owners[told] != NOBODY) & (reading != 0)
        kept = alone | (self._numbers == ROW)
        _, first = np.unique(np.stack([place, text], axis=1)[kept], axis=0, return_index=True)
        self._kept = np.zeros(len(place), bool)
        self._kept[np.flatnonzero(kept)[first]] = True  # each text once a place, in the order of the views
        self._rows = np.unique(text[self._numbers == ROW])

    def counts(self) -> Ints:
        """How many views each place has that fit it alone, its POI row included, each text once; shape (places,)."""
        return np.diff(np.r_[0, np.cumsum(self._kept)][self._offsets])

    def alone(self, place: int) -> list[int]:
        """The numbers of those views; the POI row is always one of them."""
        part = slice(self._offsets[place], self._offsets[place + 1])
        return [int(n) for n in self._numbers[part][self._kept[part]]]

    def is_row(self, reading: str) -> bool:
        """Whether some POI row reads so."""
        at = self._find(reading)
        if at is None:
            return False
        slot = int(np.searchsorted(self._rows, at))
        return slot < len(self._rows) and int(self._rows[slot]) == at

    def owner(self, reading: str) -> int | None:
        """The place that a text belongs to, ``NOBODY`` if it fits several, None if no place has it."""
        at = self._find(reading)
        return None if at is None else int(self._owners[at])

    def _find(self, reading: str) -> int | None:
        value = hash(reading)
        at = int(np.searchsorted(self._texts, value))
        return at if at < len(self._texts) and int(self._texts[at]) == value else None


def _owners(hashes: Ints, place: Ints) -> tuple[Ints, Ints, Ints]:
    """Distinct hashes ascending, the one place of each or ``NOBODY``, and each row's number among them."""
    if not len(hashes):
        return hashes, hashes, hashes
    order = np.argsort(hashes, kind="stable")
    starts = np.r_[True, np.diff(hashes[order]) != 0]
    number = np.empty(len(hashes), np.int64)
    number[order] = np.cumsum(starts) - 1
    first = np.flatnonzero(starts)
    low, high = np.minimum.reduceat(place[order], first), np.maximum.reduceat(place[order], first)
    return hashes[order][first], np.where(low == high, low, NOBODY), number


def groups_of(readings: Iterable[tuple[int, str]], places: int) -> Ints:
    """Groups of places that read the same: places share a group if a chain of equal readings joins them.

    Args:
        readings: (place, reading); empty readings join nobody.
        places: How many places there are.

    Returns:
        (places,) the number of the first place of each one's group.
    """
    rows, values = array("q"), array("q")
    for place, reading in readings:
        if reading:
            rows.append(place)
            values.append(hash(reading))
    row = np.array(rows, np.int64)
    distinct, code = np.unique(np.array(values, np.int64), return_inverse=True)
    size = places + len(distinct)
    graph = coo_array((np.ones(len(row), np.int8), (row, places + code)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][:places]
    _, first, again = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[again], np.int64)
