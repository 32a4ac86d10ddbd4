"""The terms of addresses as sets of strings, one address at a time: the oracle of the arrays and of the features."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m3gal_cli.data.queries import Query
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.features import FEATURES, FeatureContext
from m3gal_cli.rerank.features.query_terms import QueryTerms
from m3gal_cli.text.addresses import parse_address
from m3gal_cli.text.folding import fold, has_units, is_unit, reading
from m3gal_cli.text.ngram_frequencies import NgramFrequencies
from m3gal_cli.text.terms import Terms

ADDRESSES = [
    "Hotel Kämp, hotel, Pohjoisesplanadi 29, Kluuvi",
    "Hotel Kamp Garden,hotel,Kluuvikatu 2,Kluuvi",
    "Star Square Pharmacy 2,pharmacy,Main Street 5,Old Town",
    "Pharmacy,pharmacy,Main Street 5,Old Town",
    "Pharmacy,pharmacy,Main Street 5,Old Town",
    "Car park,car park,Main Street 5,Old Town",
    "莫干山路东村43幢,住宅,莫干山路 12号,西湖区",
    "莫干山路东村43幢(北门),住宅,门,莫干山路12号,西湖区",
    "星光广场,商场,文三路1号,西湖区",
    "药房北店12,医疗,学院路2号,西湖区",
    "Mall 王府井 2,shop,Main Street 5,Old Town",
    "北北门,门,x,y",
    "a",
    "...",
    "Bayview Medical Center,clinic,7 Castle Hill Rd,North",
    "Castle Hill Library 007,library,Castle Hill Road 7,North",
]
QUERIES = [
    "Hotel Kämp",
    "hotel kamp garden 29",
    "phramacy main stret",
    "car park 5",
    "莫干山路东村43",
    "星光广场对面药方12",
    "wangfujing mall",
    "王府井",
    "王府景 5",
    "北北门",
    "castlehill libr",
    "bmc",
    "md",
    "7 9 castle hill",
    "zzzz qqqq",
    "a",
    "?!",
    "",
]


def case(addresses: Sequence[str] = ADDRESSES, seed: int = 0) -> Candidates:
    """Return addresses as candidates of random scores within some kilometres of each other; one is far away."""
    draw, count = np.random.default_rng(seed), len(addresses)
    lng, lat = 24.9 + draw.uniform(0, 0.03, count), 60.1 + draw.uniform(0, 0.015, count)
    lng[count // 2] = 179.9
    return Candidates(draw.uniform(-1, 1, count), draw.uniform(0, 1, count), Terms.of(addresses), lng, lat)


def context(query: str | Query, candidates: Candidates, table: Sequence[str] = ADDRESSES) -> FeatureContext:
    """Return the context of candidates of a table."""
    query = Query(1, query) if isinstance(query, str) else query
    return FeatureContext(query, QueryTerms(query.text, NgramFrequencies.of(Terms.of(table).ngrams)), candidates)


def value(name: str, query: str | Query, addresses: Sequence[str] = ADDRESSES) -> Floats:
    """Return an unscaled feature of addresses that are the table and the candidates."""
    return FEATURES[name].compute(context(query, case(addresses), addresses))


def plain_ngrams(folded: str) -> set[str]:
    """Return the n-grams of a folded text, one kind after the other."""
    found = set()
    for run in folded.split():
        if has_units(run):
            found |= set(run) | {run[i : i + 2] for i in range(len(run) - 1)}
        else:
            padded = f" {run} "
            found |= {padded[i : i + 3] for i in range(len(padded) - 2)} | {f"word {run}"}
    return found


def plain_words(folded: str) -> list[str]:
    """Return the words and single units of a folded text."""
    return [word for run in folded.split() for word in (run if is_unit(run[0]) else [run])]


def plain_halves(folded: str) -> tuple[str, str]:
    """Divide a folded text at the first beginning or end of a word or unit in its second half."""
    words = re.finditer(r"[a-z0-9]+|[^a-z0-9\s]", folded)
    cut = min((at for word in words for at in word.span() if at >= len(folded) // 2), default=0)
    return folded[:cut].strip(), folded[cut:].strip()


@dataclass(frozen=True)
class PlainAddress:
    """The terms of an address. Folded texts: name, others, categories."""

    name: str
    others: str
    categories: str

    @classmethod
    def of(cls, address: str) -> PlainAddress:
        """Parse and fold an address."""
        parts = parse_address(address)
        categories = fold(" ".join(parts.categories))
        return cls(fold(parts.name), f"{categories} {fold(parts.street)} {fold(parts.district)}".strip(), categories)

    @property
    def name_ngrams(self) -> set[str]:
        """The n-grams of the name and, if it has units, of its ASCII reading."""
        own = plain_ngrams(self.name)
        return own | plain_ngrams(reading(self.name).replace(" ", "")) if has_units(self.name) else own

    @property
    def ngrams(self) -> set[str]:
        """The n-grams of the address."""
        return self.name_ngrams | plain_ngrams(self.others)

    @property
    def distinctive_ngrams(self) -> set[str]:
        """The n-grams of the name that the categories lack."""
        return self.name_ngrams - plain_ngrams(self.categories)

    @property
    def name_numbers(self) -> set[int]:
        """The whole numbers of the name."""
        return plain_numbers(self.name)

    @property
    def numbers(self) -> set[int]:
        """The whole numbers of the address."""
        return plain_numbers(f"{self.name} {self.others}")


def plain_numbers(folded: str) -> set[int]:
    """Return the whole numbers of a folded text."""
    return {int(digits) for digits in re.findall(r"[0-9]+", folded)}


class PlainTable:
    """Addresses with the idf of their n-grams."""

    def __init__(self, addresses: Sequence[str] = ADDRESSES) -> None:
        self.rows = [PlainAddress.of(address) for address in addresses]
        self._sets = [row.ngrams for row in self.rows]

    def count(self, gram: str) -> int:
        """Return the number of addresses with an n-gram."""
        return sum(gram in own for own in self._sets)

    def idf(self, gram: str) -> float:
        """Return ln((1 + N) / (1 + n)) + 1."""
        return math.log((1 + len(self._sets)) / (1 + self.count(gram))) + 1

    def word_idf(self, word: str) -> float:
        """Return the idf of the n-gram of a whole word."""
        return self.idf(word if is_unit(word[0]) else f"word {word}")

    def share(self, wanted: set[str], found: set[str]) -> float:
        """Return Σ idf(wanted ∩ found) / Σ idf(wanted)."""
        total = sum(self.idf(gram) for gram in wanted)
        return sum(self.idf(gram) for gram in wanted & found) / total if total else 0.0


def edit_distance(one: str, other: str) -> int:
    """Return the least number of insertions, deletions, replacements and swaps of neighbours; no part changes twice."""
    rows = [[i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            replaced = rows[i - 1][j - 1] + (one[i - 1] != other[j - 1])
            best = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, replaced)
            if i > 1 and j > 1 and one[i - 2 : i] == other[j - 2 : j][::-1]:
                best = min(best, rows[i - 2][j - 2] + 1)
            rows[i][j] = best
    return rows[-1][-1]


def indel_similarity(one: str, other: str) -> float:
    """Return 1 - d / (|a| + |b|), d the least number of insertions and deletions; 1 for two empty texts."""
    rows = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one):  # longest common subsequence
        for j, b in enumerate(other):
            rows[i + 1][j + 1] = rows[i][j] + 1 if a == b else max(rows[i][j + 1], rows[i + 1][j])
    size = len(one) + len(other)
    return 2 * rows[-1][-1] / size if size else 1.0


def best_part_similarity(one: str, other: str) -> float:
    """Return the largest indel similarity of the shorter text and a part of the longer one that is as long as it.

    Parts at the beginning and at the end may be shorter.
    """
    if not one or not other:
        return float(one == other)
    pairs = [(one, other), (other, one)] if len(one) == len(other) else [tuple(sorted((one, other), key=len))]
    best = 0.0
    for short, long in pairs:
        windows = [long[max(i, 0) : i + len(short)] for i in range(1 - len(short), len(long))]
        best = max(best, *(indel_similarity(short, window) for window in windows))
    return best
