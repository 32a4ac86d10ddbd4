"""POIs with 64-bit hashes of their values, by which rows of the index and of a table are compared.

Equal values have equal hashes in every type: a whole number that a table holds as 3 and another as 3.0 is no change.
A hash only proposes equal rows. Places, texts and ids are compared themselves, except that a row with the id hash and
the row hash of another one counts as unchanged: by chance this happens to one in 2^64 pairs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3gal_cli.index.poi_columns import Rows, as_table, is_json, taken, values_of

if TYPE_CHECKING:
    import pandas as pd

HASHES = ("id", "row", "text", "place")
BLOCK = 100_000  # strings that are Python objects at once
MAX_EXACT_INTEGER = 2**53  # float64 holds all whole numbers up to here
MAX_INTEGER = 2**63  # of a column of whole numbers

OCCURRENCE = np.uint64(0xD6E8FEB86659FD93)  # odd: products with different numbers differ

Hashes = NDArray[np.uint64]
Place = tuple[str, float, float]  # address, lng, lat


@dataclass(frozen=True)
class PoiRows:
    """A table of POIs and the hashes of its rows, by the names of ``HASHES``."""

    table: pa.Table
    hashes: dict[str, Hashes]

    @classmethod
    def of(cls, pois: pd.DataFrame | pa.Table) -> PoiRows:
        """Hash the rows of a table. Raises InputError for a missing column."""
        table = as_table(pois)
        values = {name: column_hashes(table, name) for name in table.column_names}
        named = [np.where(h == 0, h, _mixed(h ^ _hash_of_name(name))) for name, h in values.items()]
        place = _mixed(values["address"]) + _mixed(values["lng"] ^ np.uint64(1)) + _mixed(values["lat"] ^ np.uint64(2))
        row: Hashes = np.asarray(np.sum(named, axis=0, dtype=np.uint64))
        return cls(table, {"id": values["poi_id"], "row": row, "text": values["address"], "place": place})

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: Rows) -> PoiRows:
        """Return some of the rows. Shape: rows: (n,)."""
        return PoiRows(taken(self.table, rows), {name: values[rows] for name, values in self.hashes.items()})

    def content(self) -> str:
        """Return a hash of all values, in the order of the rows."""
        return content_of(self.hashes)

    def distinct_first(self) -> tuple[PoiRows, Rows]:
        """Move duplicates, rows of equal address and coordinates, to the end.

        Returns:
            The rows, and for each duplicate at the end the row that it equals.
        """
        first = first_equal_places(self.hashes["place"], lambda rows: places_of(self.table, rows))
        is_first = first == np.arange(len(self))
        if is_first.all():
            return self, first[:0]
        order = np.concatenate([np.flatnonzero(is_first), np.flatnonzero(~is_first)])
        position = np.empty_like(order)
        position[order] = np.arange(len(order))
        return self.take(order), position[first[order[is_first.sum() :]]]


def content_of(hashes: dict[str, Hashes]) -> str:
    """Return a hash of rows from their id hashes and row hashes."""
    return hashlib.sha256(hashes["id"].tobytes() + hashes["row"].tobytes()).hexdigest()[:32]


def places_of(table: pa.Table, rows: Rows) -> list[Place]:
    """Return address, lng and lat of some rows."""
    part = taken(table.select(["address", "lng", "lat"]), rows)
    return list(zip(*(part[name].to_pylist() for name in part.column_names), strict=True))


def first_equal_places(hashes: Hashes, places_at: Callable[[Rows], list[Place]]) -> Rows:
    """Return for each row the first row of equal address and coordinates. Shape: (N,) -> (N,).

    Args:
        hashes: Place hashes.
        places_at: Returns the places of some rows, which are read only where hashes are equal.
    """
    first = np.arange(len(hashes))
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(counts[inverse] > 1)
    seen: dict[Place, int] = {}
    for row, place in zip(rows.tolist(), places_at(rows), strict=True):
        first[row] = seen.setdefault(place, row)
    return first


def first_with(stored: Hashes, wanted: Hashes) -> Rows:
    """Return for each wanted hash the first stored row that has it; -1 for none. Shape: (N,), (n,) -> (n,)."""
    distinct, inverse = np.unique(wanted, return_inverse=True)
    found = np.full(len(distinct), -1)
    if len(distinct):
        at = np.minimum(np.searchsorted(distinct, stored), len(distinct) - 1)
        rows = np.flatnonzero(distinct[at] == stored)[::-1]
        found[at[rows]] = rows  # the first of equal rows is written last
    return found[inverse]


def by_occurrence(hashes: Hashes) -> Hashes:
    """Return hashes that tell equal ones apart by their order: first occurrence, second one and so on. Shape: (N,)."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    rank = np.empty(len(hashes), np.uint64)
    rank[order] = np.arange(len(hashes)) - np.searchsorted(ordered, ordered)
    return np.asarray(hashes + rank * OCCURRENCE)


def column_hashes(table: pa.Table, name: str) -> Hashes:
    """Return a hash of each value of a column; 0 for nothing. Shape: -> (N,)."""
    column = table[name]
    if is_json(table, name):
        return hashes_of(values_of(table, name))
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return _hashes_of_numbers(column)
    if pa.types.is_large_string(kind):
        blocks = [column.slice(i, BLOCK).to_numpy() for i in range(0, len(column), BLOCK)]
        hashes = np.concatenate([np.zeros(0, np.uint64), *(_hashes_of_strings(block) for block in blocks)])
        return np.where(np.asarray(column.is_null()), np.uint64(0), hashes)
    return hashes_of([value if value is None else str(value) for value in column.to_pylist()])


def _hashes_of_strings(values: NDArray[Any]) -> Hashes:
    from pandas.util import hash_array

    return hash_array(values.astype(object), categorize=False)


def hashes_of(values: list[Any]) -> Hashes:
    """Return hashes of values of mixed types; those of a number or a string are as in a column of their type."""
    texts = [value if isinstance(value, str) else repr(value) for value in values]
    hashes = _hashes_of_strings(np.array([*texts, ""], object))[:-1]
    whole = [i for i, value in enumerate(values) if isinstance(value, int) and abs(value) < MAX_INTEGER]
    other = [i for i, value in enumerate(values) if isinstance(value, float)]
    for rows, kind, convert in ((whole, pa.int64(), int), (other, pa.float64(), float)):
        hashes[rows] = _hashes_of_numbers(pa.chunked_array([[convert(values[i]) for i in rows]], kind))
    for i in set(range(len(values))) - {*whole, *other}:
        if not isinstance(values[i], str):
            hashes[i] = 0 if values[i] is None else hashes[i] ^ np.uint64(4)
    return hashes


def _hashes_of_numbers(column: pa.ChunkedArray) -> Hashes:
    if pa.types.is_floating(column.type):
        floats = np.asarray(column.cast(pa.float64()).fill_null(np.nan))
        return np.where(np.isnan(floats), np.uint64(0), _mixed(_bits(floats)))
    column = column.cast(pa.uint64() if column.type == pa.uint64() else pa.int64())
    is_null, numbers = np.asarray(column.is_null()), np.asarray(column.fill_null(0))
    large = (numbers > MAX_EXACT_INTEGER) | (numbers < -MAX_EXACT_INTEGER)
    hashes = _mixed(np.where(large, numbers.view(np.uint64) ^ np.uint64(3), _bits(numbers.astype(np.float64))))
    return np.where(is_null, np.uint64(0), hashes)


def _bits(floats: NDArray[np.float64]) -> Hashes:
    return (floats + 0.0).view(np.uint64) ^ np.uint64(0x9E3779B97F4A7C15)  # -0.0 + 0.0 is 0.0


def _mixed(values: Hashes) -> Hashes:
    """Spread the bits of 64-bit integers (the finaliser of SplitMix64, Steele et al. 2014). Shape: (N,) -> (N,)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Hashes = values ^ (values >> np.uint64(31))
    return mixed


def _hash_of_name(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
