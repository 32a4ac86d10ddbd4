"""The terms of addresses, as arrays: what search and reranking compare with a query. They are computed once for a POI.

The n-grams of a text are, of its folded form: the trigrams of each word with a space before and after it, the word
itself, each unit, and each pair of adjacent units. Those of a name with units include the n-grams of its ASCII reading,
so that a Latin query finds it. They are hashed to 32 bits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.folding import UNIT_RANGES, fold, has_units, reading

TERMS_VERSION = 2  # of the rules above; an index of another version computes its terms again

Ids = NDArray[np.uint32]
Numbers = NDArray[np.int64]
_DIGITS = re.compile(r"\d+")
_SPACE = np.uint32(ord(" "))
_BATCH = 20_000  # addresses
_ROW_BITS = np.uint64(32)
_LOW_BITS = 1 << 16
_WORD_BASE = np.uint64(0x9E3779B97F4A7C15)
_KINDS = np.array([0x1D8E4E27C47D124F, 0x5851F42D4C957F2D, 0x2545F4914F6CDD1D, 0x6C62272E07BB0142], np.uint64)


class Lists:
    """One list of numbers per row.

    Shape:
        starts: (N + 1,). values: (V,); those of row i are ``values[starts[i] : starts[i + 1]]``.
    """

    def __init__(self, starts: Numbers, values: NDArray[np.generic]) -> None:
        self.starts, self.values = starts, values

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Numbers:
        """The length of each list. Shape: (N,)."""
        return np.diff(self.starts)

    def take(self, rows: Numbers) -> Lists:
        """Return the lists of some rows. Their values are copied at first use. Shape: (n,) -> n lists."""
        return _ListsOfRows(self, rows)

    def find(self, wanted: NDArray[np.generic]) -> tuple[Numbers, Numbers]:
        """Return the rows of all values that are wanted, ascending, and the position of each in ``wanted``.

        Shape:
            wanted: (G,), ascending uint32. Returns (H,) and (H,).
        """
        if not len(wanted):
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        is_low = np.zeros(_LOW_BITS, bool)  # most values differ from the wanted ones in the low bits
        is_low[wanted.astype(np.uint16)] = True
        hits = np.flatnonzero(is_low.take(self.values.astype(np.uint16)))
        values = self.values[hits]
        at = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
        equal = wanted[at] == values
        counts = np.diff(np.searchsorted(hits[equal], self.starts))
        return np.repeat(np.arange(len(counts)), counts), at[equal]

    @classmethod
    def concatenate(cls, parts: Sequence[Lists], dtype: type[np.generic]) -> Lists:
        """Append lists of several tables."""
        counts = np.concatenate([np.zeros(1, np.int64), *(part.counts for part in parts)])
        return Lists(np.cumsum(counts), np.concatenate([np.zeros(0, dtype), *(part.values for part in parts)]))


class _ListsOfRows(Lists):
    """Lists of some rows of a table. Shape: rows: (n,)."""

    def __init__(self, table: Lists, rows: Numbers) -> None:
        self._table, self._rows = table, rows

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, rows: Numbers) -> Lists:
        return _ListsOfRows(self._table, self._rows[rows])

    @cached_property
    def starts(self) -> Numbers:  # type: ignore[override]
        first = np.asarray(self._table.starts[self._rows])
        counts = np.asarray(self._table.starts[self._rows + 1]) - first
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    @cached_property
    def values(self) -> NDArray[np.generic]:  # type: ignore[override]
        positions = np.repeat(self._table.starts[self._rows] - self.starts[:-1], self.counts)
        positions += np.arange(self.starts[-1])
        return self._table.values.take(positions)


_FIELD_TYPES: dict[str, type[np.generic]] = {
    "ngrams": np.uint32,
    "name_ngrams": np.uint32,
    "distinctive_ngrams": np.uint32,
    "numbers": np.uint32,
    "name_numbers": np.uint32,
    "name_words": np.uint32,
    "other_words": np.uint32,
    "texts": np.uint8,
}


@dataclass(frozen=True)
class Terms:
    """The terms of N addresses.

    N-grams and numbers are distinct in a row, and ascending. Words, numbers and single units are in the order of the
    address, as their hashed n-grams.
    """

    ngrams: Lists  # of the address
    name_ngrams: Lists  # of the name
    distinctive_ngrams: Lists  # those of the name that its categories lack; none for a car park "Car park"
    numbers: Lists  # whole numbers of the address
    name_numbers: Lists  # whole numbers of the name
    name_words: Lists  # words, numbers and units of the name
    other_words: Lists  # those of the other parts
    texts: Lists  # folded name, a tab, the other folded parts; UTF-8

    def __len__(self) -> int:
        return len(self.ngrams)

    @classmethod
    def of(cls, addresses: Sequence[str]) -> Terms:
        """Compute the terms of addresses."""
        batches = [_terms_of(addresses[i : i + _BATCH]) for i in range(0, len(addresses), _BATCH)]
        return cls.concatenate(batches or [_terms_of([])])

    @staticmethod
    def query(text: str) -> Ids:
        """Return the distinct n-grams of a query, ascending."""
        return Terms.of_folded([fold(text)]).values  # type: ignore[return-value]

    @staticmethod
    def of_folded(texts: Sequence[str]) -> Lists:
        """Return the distinct n-grams of folded texts, ascending."""
        return _ngrams(texts)

    @staticmethod
    def word_ids(words: Sequence[str]) -> Ids:
        """Return the n-gram of each folded word as a whole, or of each single unit. Shape: -> (n,)."""
        return _words([" ".join(words)]).values  # type: ignore[return-value]

    def take(self, rows: Numbers) -> Terms:
        """Return the terms of some rows. Shape: (n,)."""
        return Terms(*(getattr(self, field.name).take(rows) for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence[Terms]) -> Terms:
        """Append the terms of several tables."""
        return cls(*(Lists.concatenate([getattr(p, name) for p in parts], t) for name, t in _FIELD_TYPES.items()))

    def save(self, folder: Path) -> None:
        """Write the arrays into an existing folder. Raises OSError."""
        for name in _FIELD_TYPES:
            lists = getattr(self, name)
            np.save(folder / f"{name}.starts.npy", lists.starts)
            np.save(folder / f"{name}.npy", lists.values)

    @classmethod
    def open(cls, folder: Path) -> Terms:
        """Memory-map the arrays. Raises OSError, ValueError and EOFError for files that are missing or damaged."""
        found = []
        for name, kind in _FIELD_TYPES.items():
            starts = np.asarray(np.load(folder / f"{name}.starts.npy", mmap_mode="r"))
            values = np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))
            if starts.dtype != np.int64 or values.dtype != kind or not len(starts) or int(starts[-1]) != len(values):
                raise ValueError(f"{name}.npy does not hold terms")
            found.append(Lists(starts, values))
        if len({len(lists) for lists in found}) != 1:
            raise ValueError("the files are of different tables")
        return cls(*found)

    def folded(self) -> list[tuple[str, str]]:
        """Return the folded name of each row, and its other folded parts."""
        content, starts = self.texts.values.tobytes(), self.texts.starts.tolist()
        texts = (content[start:end].decode().partition("\t") for start, end in pairwise(starts))
        return [(name, others) for name, _, others in texts]


def numbers_of(folded: str) -> set[int]:
    """Return the whole numbers of a folded text, of at most their last 40 digits, modulo 2**32."""
    return {int(digits[-40:]) & 0xFFFFFFFF for digits in _DIGITS.findall(folded)} if folded else set()


def _terms_of(addresses: Sequence[str]) -> Terms:
    """Compute the terms of a batch of addresses."""
    parsed = [parse_address(address) for address in addresses]
    names = [fold(parts.name) for parts in parsed]
    categories = [fold(" ".join(parts.categories)) for parts in parsed]
    others = [f"{c} {fold(p.street)} {fold(p.district)}".strip() for c, p in zip(categories, parsed, strict=True)]
    with_units = [i for i, name in enumerate(names) if has_units(name)]
    readings, rows = [reading(names[i]).replace(" ", "") for i in with_units], np.array(with_units, np.int64)
    numbers = np.arange(len(addresses), dtype=np.int64)
    name_ngrams = _ngrams([*names, *readings], np.concatenate([numbers, rows]), len(addresses))
    whole = [f"{name} {rest}" for name, rest in zip(names, others, strict=True)]
    return Terms(
        _ngrams([*whole, *readings], np.concatenate([numbers, rows]), len(addresses)),
        name_ngrams,
        _without(name_ngrams, _ngrams(categories)),
        _lists([sorted(numbers_of(text)) for text in whole], np.uint32),
        _lists([sorted(numbers_of(name)) for name in names], np.uint32),
        _words(names),
        _words(others),
        _lists([f"{name}\t{rest}".encode() for name, rest in zip(names, others, strict=True)], np.uint8),
    )


def _lists(rows: Sequence[Sequence[int] | bytes], dtype: type[np.generic]) -> Lists:
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    if dtype is np.uint8:
        return Lists(starts, np.frombuffer(b"".join(rows), np.uint8))  # type: ignore[arg-type]
    return Lists(starts, np.array([value for row in rows for value in row], dtype))


def _ngrams(texts: Sequence[str], rows: Numbers | None = None, size: int | None = None) -> Lists:
    """Return the distinct n-grams of folded texts.

    Args:
        texts: The texts.
        rows: The row of each text; None: its position.
        size: Number of rows.
    """
    rows, size = (np.arange(len(texts)), len(texts)) if rows is None or size is None else (rows, size)
    points, letter, unit, text_of = _letters(texts)
    row_of = rows.astype(np.uint64)[text_of]
    triples = np.flatnonzero(letter[1:-1] & ~unit[:-2] & ~unit[2:]) + 1
    pairs = np.flatnonzero(unit[1:] & unit[:-1])
    starts = _word_starts(letter)
    codes = [
        points[triples - 1] << np.uint64(42) | points[triples] << np.uint64(21) | points[triples + 1],
        _word_codes(points, letter, starts),
        points[unit],
        points[pairs] << np.uint64(21) | points[pairs + 1],
    ]
    owners = [row_of[triples], row_of[starts], row_of[unit], row_of[pairs]]
    keys = [row << _ROW_BITS | _hash(code, kind) for row, code, kind in zip(owners, codes, _KINDS, strict=True)]
    return _of_keys(np.sort(np.concatenate(keys)), size)


def _words(texts: Sequence[str]) -> Lists:
    """Return the words, numbers and units of folded texts, in their order."""
    points, letter, unit, text_of = _letters(texts)
    starts, ids = _word_starts(letter), np.zeros(len(points), np.uint32)
    ids[starts] = _hash(_word_codes(points, letter, starts), _KINDS[1])
    ids[unit] = _hash(points[unit], _KINDS[2])
    unit[starts] = True
    counts = np.bincount(text_of[unit], minlength=len(texts))
    return Lists(np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), ids[unit])


def _letters(texts: Sequence[str]) -> tuple[NDArray[np.uint64], NDArray[np.bool_], NDArray[np.bool_], Numbers]:
    """Return the code points of folded texts, with spaces around each: which are letters of words, which units; texts.

    Shape:
        Each (T,).
    """
    spaced = [f" {text} " for text in texts]
    points = np.frombuffer("".join(spaced).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    unit = np.zeros(len(points), bool)
    for low, high in UNIT_RANGES:
        unit |= (points >= low) & (points <= high)
    return points, (points != _SPACE) & ~unit, unit, np.repeat(np.arange(len(texts)), [len(text) for text in spaced])


def _word_starts(letter: NDArray[np.bool_]) -> Numbers:
    """Return where words begin. Shape: (T,) -> (W,)."""
    return np.flatnonzero(letter & np.concatenate([[True], ~letter[:-1]]))


def _word_codes(points: NDArray[np.uint64], letter: NDArray[np.bool_], starts: Numbers) -> NDArray[np.uint64]:
    """Return a code of each word, a polynomial of its letters. Shape: starts: (W,), first letters -> (W,)."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    at = np.flatnonzero(letter)
    word = np.cumsum(np.isin(at, starts, assume_unique=True)) - 1
    powers = np.cumprod(np.full(int((at - starts[word]).max()) + 1, _WORD_BASE, np.uint64))
    return np.add.reduceat(points[at] * powers[at - starts[word]], np.searchsorted(at, starts))


def _hash(codes: NDArray[np.uint64], kind: np.uint64) -> NDArray[np.uint64]:
    """Hash codes to 32 bits (the finaliser of splitmix64, Steele et al. 2014). Shape: (n,) -> (n,)."""
    mixed = codes ^ kind
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(32))


def _of_keys(keys: NDArray[np.uint64], size: int) -> Lists:
    """Return the distinct values by row of ascending keys ``row << 32 | value``."""
    keys = keys[np.concatenate([keys[:1] == keys[:1], keys[1:] != keys[:-1]])]
    starts = np.searchsorted(keys, np.arange(size + 1, dtype=np.uint64) << _ROW_BITS).astype(np.int64)
    return Lists(starts, keys.astype(np.uint32))


def _without(lists: Lists, others: Lists) -> Lists:
    """Return the values of each row that the same row of ``others`` lacks."""
    return _of_keys(np.setdiff1d(_keys_of(lists), _keys_of(others), assume_unique=True), len(lists))


def _keys_of(lists: Lists) -> NDArray[np.uint64]:
    rows = np.repeat(np.arange(len(lists), dtype=np.uint64), lists.counts)
    return np.asarray(rows << _ROW_BITS | lists.values.astype(np.uint64))
