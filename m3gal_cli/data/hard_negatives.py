"""Candidate sets: for each query the POIs that are easily taken for the one meant. Deterministic by seed."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from m3gal_cli.text.tfidf import LexicalIndex

# Of the negatives; the rest is lexically close. Where one kind runs short, the others fill up.
SHARES = {
    "kin": 0.25,  # namesakes and other branches of the brand: only the place tells them apart
    "compound": 0.15,  # in the same named area: the address is the same, the name tells
    "crossing": 0.1,  # told by the same crossing
    "near": 0.2,  # whatever is nearest
}
LEXICAL, OTHER = "lexical", "random"
TWIN_M = 100.0  # a POI of the same name this near may well be the same place
_FIELDS = re.compile(r"[,，]")
_BRACKETS = re.compile(r"\s*[(（\[【][^()（）\[\]【】]*[)）\]】]")
_NUMBER = re.compile(r"^\D*\d+")
_LAST_NUMBER = re.compile(r"\s*\d+$")


@dataclass(frozen=True)
class Pois:
    """The POI table as the miner sees it; N rows.

    Attributes:
        texts: The rows' texts.
        reads: What each text reads as; equal readings are never each other's negatives.
        names: What each name reads as ("" without a name).
        brands: A brand or a name without its branch, "" without.
        where: (N, 2) metres, east and north.
        compounds, crossings: What each row's compound and crossing are called or numbered; "" or -1 for none.
        groups: Equal for rows that read the same in some way; never each other's negatives.
    """

    texts: Sequence[str]
    reads: Sequence[str]
    names: Sequence[str]
    brands: Sequence[str]
    where: np.ndarray
    compounds: Sequence[str | int] = ()
    crossings: Sequence[str | int] = ()
    groups: Sequence[int] = ()


@dataclass
class Mined:
    """The negatives of a query: row numbers, and what brought each in (a key of ``SHARES``, lexical or random)."""

    rows: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


class Miner:
    """Finds negatives in a POI table, which is indexed once."""

    def __init__(self, pois: Pois) -> None:
        self.pois = pois
        self._lexical = LexicalIndex(pois.texts)
        self._tree = cKDTree(pois.where)
        self._kin = _groups(pois.names), _groups(pois.brands)
        self._compounds, self._crossings = _groups(pois.compounds), _groups(pois.crossings)

    def mine(self, queries: Sequence[str], gold: Sequence[int | Sequence[int]], n: int, seed: int) -> list[Mined]:
        """Negatives for every query, in random order.

        Each kind of ``SHARES`` gives its share, nearest to the gold first; the texts nearest to the query by character
        1-2-grams give the rest. Never taken are a row that reads like a gold one, one of its group, and a namesake of
        it within ``TWIN_M``.

        Args:
            queries: Query texts.
            gold: For each query the row that it means, or all of them: the first has the negatives around it.
            n: Negatives a query; fewer where the table is too small.
            seed: Orders the negatives, and draws where no kind has any left.
        """
        if not len(queries):
            return []
        k = min(len(self.pois.texts), 4 * n + 8)
        close = self._lexical.nearest(queries, k)
        meant = [[g] if isinstance(g, (int, np.integer)) else list(g) for g in gold]
        _, near = self._tree.query(self.pois.where[[rows[0] for rows in meant]], k=k)
        near = np.reshape(near, (len(queries), k))
        out = []
        for q, positives in enumerate(meant):
            sources = self._around(positives[0]) | {"near": near[q].tolist(), LEXICAL: close[q].tolist()}
            out.append(self._choose(positives, sources, n, np.random.default_rng([seed, q])))
        return out

    def _around(self, positive: int) -> dict[str, list[int]]:
        """Rows of the gold's kin, compound and crossing, each nearest first."""
        pois = self.pois
        names, brands = self._kin
        kin = [*names.get(pois.names[positive], ()), *brands.get(pois.brands[positive], ())]
        found = {"kin": self._nearest_first(kin, positive)}
        for kind, values, groups in (
            ("compound", pois.compounds, self._compounds),
            ("crossing", pois.crossings, self._crossings),
        ):
            found[kind] = self._nearest_first(groups.get(values[positive], []), positive) if len(values) else []
        return found

    def _nearest_first(self, rows: list[int], to: int) -> list[int]:
        if not rows:
            return []
        distinct: NDArray[np.int64] = np.unique(np.array(rows, np.int64))
        away = np.hypot(*(self.pois.where[distinct] - self.pois.where[to]).T)
        return [int(row) for row in distinct[np.argsort(away, kind="stable")]]

    def _choose(self, positives: list[int], sources: dict[str, list[int]], n: int, rng: np.random.Generator) -> Mined:
        """``n`` rows from the sources by their shares, then whatever else there is, in random order."""
        taken = {self.pois.reads[positive] for positive in positives}
        found = Mined()

        def take(source: str, rows: Iterable[int], up_to: int) -> None:
            for row in rows:
                if len(found.rows) >= min(up_to, n):
                    return
                if self.pois.reads[row] not in taken and not any(self._same(p, row) for p in positives):
                    taken.add(self.pois.reads[row])
                    found.rows.append(int(row))
                    found.sources.append(source)

        for source, share in SHARES.items():
            take(source, sources[source], len(found.rows) + round(n * share))
        for source in (LEXICAL, "near"):
            take(source, sources[source], n)
        if len(found.rows) < n:
            take(OTHER, rng.permutation(len(self.pois.texts)).tolist(), n)
        order = rng.permutation(len(found.rows))
        return Mined([found.rows[i] for i in order], [found.sources[i] for i in order])

    def _same(self, positive: int, row: int) -> bool:
        """Whether a row may well be the gold's own place."""
        pois = self.pois
        if len(pois.groups) and pois.groups[row] == pois.groups[positive]:
            return True
        if not pois.names[row] or pois.names[row] != pois.names[positive]:
            return False
        return bool(np.hypot(*(pois.where[row] - pois.where[positive])) < TWIN_M)


def by_source(mined: Iterable[Mined]) -> dict[str, int]:
    """How many negatives each source gave, the largest first."""
    return dict(Counter(source for found in mined for source in found.sources).most_common())


def _groups(values: Sequence[str | int]) -> dict[str | int, list[int]]:
    groups: dict[str | int, list[int]] = defaultdict(list)
    for i, value in enumerate(values):
        if value not in ("", -1):
            groups[value].append(i)
    return groups


def parts_of(text: str) -> tuple[str, str, str, str]:
    """Name, brand, compound and crossing of a POI text that begins with the name and has commas behind it.

    The name is what stands before the first comma; the brand is the name without its brackets, if it has any; the
    compound is the first later part that holds a number, up to the end of that number (东山路12号3楼: 东山路12); the
    crossing is what stands before that number, a street or a crossing of two (东山路; 东山路与西湖街路口西).
    """
    name, *others = (part.strip() for part in _FIELDS.split(text))
    brand = _BRACKETS.sub("", name).strip()
    compound = next((found.group() for part in others if (found := _NUMBER.match(part))), "")
    return name, brand if brand != name else "", compound, _LAST_NUMBER.sub("", compound)
