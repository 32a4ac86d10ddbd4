"""The terms of addresses that features compare with a query. Each address is analysed once.

Terms are character n-grams, units and numbers. A unit is a word, a number, or a letter of a script without spaces. A
key is an integer, which replaces a term in comparisons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.document_frequencies import DocumentFrequencies
from m3gal_cli.text.ngrams import Codes, Ngrams
from m3gal_cli.text.normalise import normalise

SUFFIX_UNITS = 4
CAPACITY = 100_000  # analysed addresses in memory, about 2 KB each
# Letters of scripts without spaces: Thai and Lao, Burmese, Khmer, kana and Han.
_LETTER_UNITS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u31ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_LETTER_UNITS}]|\d+|[^\W\d_{_LETTER_UNITS}]+")
_NUMBER = re.compile(r"\d+")

Keys = NDArray[np.int32]


class AddressTerms(NamedTuple):
    """The keys of the terms of some addresses, one entry per address; distinct keys, except in the suffix."""

    ngrams: Sequence[Keys]  # character 1-2-grams of the address
    name_ngrams: Sequence[Keys]  # those of the name
    distinctive_ngrams: Sequence[Keys]  # those of the name that the categories lack; none for a car park "Car park"
    distinctive_idf: Sequence[float]  # sum of their idf
    units: Sequence[Keys]  # units of name and categories
    suffix: Sequence[Keys]  # the last four units of the name, after zeros if it has fewer
    numbers: Sequence[Keys]  # whole numbers of the address
    name_numbers: Sequence[Keys]  # whole numbers of the name


def units_of(text: str) -> list[str]:
    """Return the units of a normalised text in their order: words, numbers, letters of scripts without spaces."""
    return _UNIT.findall(text)


def numbers_of(text: str) -> set[str]:
    """Return the whole numbers of a text, as strings of digits."""
    return set(_NUMBER.findall(text))


class AddressTermsCache:
    """The terms of the addresses of earlier queries, and the keys of these terms; safe for several threads.

    Args:
        document_frequencies: Those of the POI table.
        capacity: Number of addresses above which the cache is emptied.
    """

    def __init__(self, document_frequencies: DocumentFrequencies, capacity: int = CAPACITY) -> None:
        self.document_frequencies, self.capacity = document_frequencies, capacity
        self._terms: dict[str, tuple[Any, ...]] = {}  # the fields of AddressTerms
        self._keys: dict[str, int] = {"": 0}  # of units and numbers; 0 pads suffixes
        self._codes = np.array([np.iinfo(np.uint64).max], np.uint64)  # of n-grams, ascending
        self._code_keys = np.array([-1], np.int32)
        self._lock = Lock()

    def get(self, addresses: Sequence[str]) -> AddressTerms:
        """Return the terms of addresses; new addresses are analysed."""
        with self._lock:
            if len(self._terms) > self.capacity:
                self._terms = {}
            new = [address for address in dict.fromkeys(addresses) if address not in self._terms]
            if new:
                self._analyse(new)
            return AddressTerms(*zip(*(self._terms[address] for address in addresses), strict=True))

    def keys(self, terms: Iterable[str]) -> Keys:
        """Return the keys of units or numbers in their order; -1 for a term that no address has."""
        return np.array([self._keys.get(term, -1) for term in terms], np.int32)

    def ngram_keys(self, codes: Codes) -> Keys:
        """Return the keys of n-grams; -1 for an n-gram that no address has. Shape: (G,) -> (G,)."""
        at = np.searchsorted(self._codes[:-1], codes)
        return np.where(self._codes[at] == codes, self._code_keys[at], np.int32(-1))

    def _add_codes(self, codes: Codes) -> None:
        """Give keys to new n-grams. The last code is a sentinel."""
        new = np.setdiff1d(codes, self._codes)
        at = np.searchsorted(self._codes, new)
        keys = len(self._codes) - 1 + np.arange(len(new), dtype=np.int32)
        self._codes, self._code_keys = np.insert(self._codes, at, new), np.insert(self._code_keys, at, keys)

    def _add_keys(self, terms: Iterable[str]) -> Keys:
        """Return the keys of units or numbers; new terms get new keys."""
        known = self._keys
        return np.array([known.setdefault(term, len(known)) for term in terms], np.int32)

    def _split(self, ngrams: Ngrams) -> list[Keys]:
        """Return the keys of n-grams by text."""
        ends = np.searchsorted(ngrams.rows, np.arange(1, ngrams.size))
        # Slices would keep the keys of the whole batch in memory.
        return [part.copy() for part in np.split(self.ngram_keys(ngrams.codes), ends)]

    def _analyse(self, addresses: list[str]) -> None:
        """Store the terms of new addresses."""
        parsed = [parse_address(address) for address in addresses]
        names = [normalise(parts.name) for parts in parsed]
        categories = [normalise(" ".join(parts.categories)) for parts in parsed]
        texts = [normalise(address) for address in addresses]
        name_ngrams = Ngrams.of(names)
        distinctive = name_ngrams.without(Ngrams.of(categories))
        idf = np.bincount(distinctive.rows, self.document_frequencies.idf(distinctive.codes), distinctive.size)
        ngrams = Ngrams.of(texts).distinct()
        self._add_codes(np.concatenate([ngrams.codes, name_ngrams.codes]))
        columns = zip(*map(self._split, (ngrams, name_ngrams.distinct(), distinctive)), idf.tolist(), strict=True)
        for i, (address, own) in enumerate(zip(addresses, columns, strict=True)):
            units = units_of(names[i])
            suffix = np.zeros(SUFFIX_UNITS, np.int32)
            last = self._add_keys(units[-SUFFIX_UNITS:])
            suffix[SUFFIX_UNITS - len(last) :] = last
            unit_keys = self._add_keys({*units, *units_of(categories[i])})
            numbers = self._add_keys(numbers_of(texts[i])), self._add_keys(numbers_of(names[i]))
            self._terms[address] = (*own, unit_keys, suffix, *numbers)


def find_keys(rows: Sequence[Keys], wanted: Keys) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and position in ``wanted`` of each wanted key of some rows, in the order of the rows and their keys.

    ``wanted`` holds distinct keys; negative ones are in no row.
    """
    keys, ends = np.concatenate(rows), np.cumsum(np.fromiter(map(len, rows), np.int64, len(rows)))
    position = np.full(max(keys.max(initial=-1), wanted.max(initial=-1)) + 1, -1, np.int16)
    position[wanted[wanted >= 0]] = np.flatnonzero(wanted >= 0)
    columns = position[keys]
    hits = np.flatnonzero(columns >= 0)
    return np.searchsorted(ends, hits, side="right"), columns[hits].astype(np.int64)
