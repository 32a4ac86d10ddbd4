"""POIs with 64-bit hashes of their values, by which rows of the index and of a table are compared.

Equal values have equal hashes in every type: the numbers 3 and 3.0 are no change. Null is as a missing column or key.

A row whose id hash and row hash are those of a stored row counts as unchanged. Its values are not compared: two
different rows have the same row hash with a probability of 2^-64. Places, texts and given ids are compared by value if
their hashes are equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from m3gal_cli.index.poi_columns import Rows, as_table, is_json, taken, values_of

if TYPE_CHECKING:
    import pandas as pd

HASHES = ("id", "row", "text", "place")
BLOCK = 100_000  # values that are hashed at once
MAX_EXACT_INTEGER = 2**53  # float64 holds all whole numbers up to here
MAX_INTEGER = 2**63  # of a column of whole numbers

OCCURRENCE = np.uint64(0xD6E8FEB86659FD93)  # odd: products with different numbers differ
OBJECT = np.uint64(0xA0761D6478BD642F)  # tells an object from a list

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
        place = _mixed(values["address"]) + _mixed(values["lng"] ^ np.uint64(1)) + _mixed(values["lat"] ^ np.uint64(2))
        row = _sum_of_named(values.items(), len(table))
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
    """Return a hash of each value of a column; 0 for null. Shape: -> (N,)."""
    if is_json(table, name):
        return hashes_of(values_of(table, name))
    blocks = (chunk.slice(i, BLOCK) for chunk in table[name].chunks for i in range(0, len(chunk), BLOCK))
    return np.concatenate([np.zeros(0, np.uint64), *map(_hashes_of_array, blocks)])


def hashes_of(values: list[Any]) -> Hashes:
    """Return hashes of values of mixed types, which equal those of an Arrow column of their type. Shape: -> (n,)."""
    rows_of_kind: dict[Any, list[int]] = {}
    for i, value in enumerate(values):
        if value is not None:
            rows_of_kind.setdefault(_kind_of(value), []).append(i)
    hashes = np.zeros(len(values), np.uint64)
    for kind, rows in rows_of_kind.items():
        own = [values[i] for i in rows]
        if kind is int:
            hashes[rows] = _hashes_of_numbers(pa.array(map(int, own), pa.int64()))
        elif kind is float:
            hashes[rows] = _hashes_of_numbers(pa.array(own, pa.float64()))
        elif kind is str:
            hashes[rows] = _hashes_of_strings(own)
        elif kind in (dict, list):
            hashes[rows] = _hashes_of_containers(own, kind is dict)
        else:
            hashes[rows] = _hashes_of_strings([repr(value) for value in own]) ^ np.uint64(4)
    return hashes


def _kind_of(value: Any) -> Any:
    """Return int (also for booleans), float, str, dict or list; object for other values."""
    if isinstance(value, int):
        return int if abs(value) < MAX_INTEGER else object
    return next((kind for kind in (float, str, dict, list) if isinstance(value, kind)), object)


def _hashes_of_array(array: pa.Array) -> Hashes:
    kind = array.type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        hashes = _hashes_of_numbers(array)
    elif pa.types.is_struct(kind):
        fields = [(field.name, _hashes_of_array(child)) for field, child in zip(kind, array.flatten(), strict=True)]
        hashes = _mixed(_sum_of_named(fields, len(array)) ^ OBJECT)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = np.where(np.asarray(array.is_valid()), np.diff(np.asarray(array.offsets)), 0)
        hashes = _hashes_of_lists(_hashes_of_array(array.flatten()), lengths)
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        hashes = _hashes_of_strings(array.to_numpy(zero_copy_only=False))
    else:
        return _hashes_of_array(array.cast(_hashed_type(kind)))
    return np.where(np.asarray(array.is_null()), np.uint64(0), hashes)


def _hashed_type(kind: pa.DataType) -> pa.DataType:
    """Return the type whose hashes a type without hashes of its own has, such as texts for times."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type)
    if pa.types.is_map(kind):
        return pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)]))
    return pa.large_binary() if pa.types.is_binary(kind) or pa.types.is_fixed_size_binary(kind) else pa.large_string()


def _hashes_of_containers(values: list[Any], are_objects: bool) -> Hashes:
    """Return hashes of JSON objects or of lists, those of their members first."""
    lengths = np.array([len(value) for value in values])
    members = hashes_of([member for value in values for member in (value.values() if are_objects else value)])
    if not are_objects:
        return _hashes_of_lists(members, lengths)
    names = np.array([_hash_of_name(str(name)) for value in values for name in value], np.uint64)
    return _mixed(_sums(_named(members, names), lengths) ^ OBJECT)


def _hashes_of_lists(members: Hashes, lengths: Rows) -> Hashes:
    """Return hashes of lists from the hashes of all their members. Shape: (sum of lengths,), (n,) -> (n,)."""
    starts = np.cumsum(lengths) - lengths
    positions = np.arange(len(members)) - np.repeat(starts, lengths)
    sums = _sums(_named(members, _mixed(positions.astype(np.uint64))), lengths)
    return _mixed(sums ^ (lengths + 1).astype(np.uint64))  # an empty list is not null


def _sums(members: Hashes, lengths: Rows) -> Hashes:
    """Return the sum of the next ``lengths[i]`` members for each i. Shape: (sum of lengths,), (n,) -> (n,)."""
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(members, dtype=np.uint64)])
    ends = np.cumsum(lengths)
    return np.asarray(sums[ends] - sums[ends - lengths])


def _sum_of_named(fields: Iterable[tuple[str, Hashes]], count: int) -> Hashes:
    """Return sums of the hashes of named fields; null is as no field. Shape: (count,) for each field -> (count,)."""
    total = np.zeros(count, np.uint64)
    for name, hashes in fields:
        total += _named(hashes, _hash_of_name(name))
    return total


def _named(hashes: Hashes, names: Hashes | np.uint64) -> Hashes:
    return np.where(hashes == 0, hashes, _mixed(hashes ^ names))


def _hashes_of_strings(values: Sequence[Any] | NDArray[Any]) -> Hashes:
    from pandas.util import hash_array

    objects = np.empty(len(values), object)
    objects[:] = values
    return hash_array(objects, categorize=False)


def _hashes_of_numbers(array: pa.Array) -> Hashes:
    if pa.types.is_floating(array.type):
        floats = np.asarray(array.cast(pa.float64()).fill_null(np.nan))
        return np.where(np.isnan(floats), np.uint64(0), _mixed(_bits(floats)))
    numbers = np.asarray(array.cast(pa.uint64() if array.type == pa.uint64() else pa.int64()).fill_null(0))
    large = (numbers > MAX_EXACT_INTEGER) | (numbers < -MAX_EXACT_INTEGER)
    return _mixed(np.where(large, numbers.view(np.uint64) ^ np.uint64(3), _bits(numbers.astype(np.float64))))


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
