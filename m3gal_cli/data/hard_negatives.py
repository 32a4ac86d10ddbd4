"""Hard negatives: for each query, POIs that are easily confused with its gold. Deterministic by seed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from m3gal_cli.data.duplicates import first_by_key
from m3gal_cli.data.records import Passage, Record
from m3gal_cli.geo.distances import local_metres
from m3gal_cli.text.addresses import parse_surroundings
from m3gal_cli.text.normalise import reading_key
from m3gal_cli.text.tfidf import TfidfIndex

# Shares of the negatives by source. Lexical neighbours give the rest, and replace what a source lacks.
SHARES = {
    "brand": 0.25,  # POIs of the same name or brand, which only the location distinguishes
    "compound": 0.15,  # POIs of the same compound, whose names differ
    "crossing": 0.1,  # POIs of the same street or crossing
    "near": 0.2,  # nearest POIs
}
LEXICAL, RANDOM = "lexical", "random"
SAME_PLACE_M = 100.0  # two POIs of one name within this distance may be the same place


@dataclass(frozen=True)
class MiningTable:
    """The columns of a POI table from which negatives are mined; N rows. A missing value is "" or -1."""

    texts: Sequence[str]  # address texts
    keys: Sequence[str]  # reading keys of the texts; POIs of one key are never negatives of each other
    names: Sequence[str]  # reading keys of the names
    brands: Sequence[str]  # reading keys of the brands, or of the names without their branch
    metres: np.ndarray  # (N, 2), east and north
    compounds: Sequence[str | int]
    crossings: Sequence[str | int]
    groups: Sequence[int]  # numbers of groups of POIs that are never negatives of each other


@dataclass
class MinedNegatives:
    """The row numbers of the negatives of a query, and the source of each: a key of ``SHARES``, lexical or random."""

    rows: list[int] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)


class NegativeMiner:
    """Mines negatives from a POI table."""

    def __init__(self, table: MiningTable) -> None:
        self.table = table
        self._lexical = TfidfIndex(table.texts)
        self._tree = cKDTree(table.metres)
        self._by_name, self._by_brand = _rows_by_value(table.names), _rows_by_value(table.brands)
        self._by_compound, self._by_crossing = _rows_by_value(table.compounds), _rows_by_value(table.crossings)

    def mine(
        self, queries: Sequence[str], gold: Sequence[int | Sequence[int]], n: int, seed: int
    ) -> list[MinedNegatives]:
        """Return negatives for every query, in random order.

        Each source of ``SHARES`` gives its share, nearest to the gold first. The texts nearest to the query by tf-idf
        give the rest. Rows that have the reading key or the group of a gold row, or its name within ``SAME_PLACE_M``,
        are excluded.

        Args:
            queries: Query texts.
            gold: Gold row or rows of each query; negatives are mined around the first.
            n: Negatives per query; fewer if the table is too small.
            seed: Random seed for the order, and for the sample if all sources are used up.
        """
        if not len(queries):
            return []
        k = min(len(self.table.texts), 4 * n + 8)
        lexical = self._lexical.nearest(queries, k)
        positives = [[g] if isinstance(g, (int, np.integer)) else list(g) for g in gold]
        _, near = self._tree.query(self.table.metres[[rows[0] for rows in positives]], k=k)
        near = np.reshape(near, (len(queries), k))
        out = []
        for q, rows in enumerate(positives):
            sources = self._around(rows[0], k) | {"near": near[q].tolist(), LEXICAL: lexical[q].tolist()}
            out.append(self._choose(rows, sources, n, np.random.default_rng([seed, q])))
        return out

    def _around(self, positive: int, first: int) -> dict[str, Iterable[int]]:
        """Return the rows of the gold's brand, compound and crossing, each by ``_nearest_first``."""
        table = self.table
        none: NDArray[np.int64] = np.array([], np.int64)
        rows = {
            "brand": np.union1d(
                self._by_name.get(table.names[positive], none), self._by_brand.get(table.brands[positive], none)
            ),
            "compound": self._by_compound.get(table.compounds[positive], none),
            "crossing": self._by_crossing.get(table.crossings[positive], none),
        }
        return {source: self._nearest_first(own, positive, first) for source, own in rows.items()}

    def _nearest_first(self, rows: NDArray[np.int64], positive: int, first: int) -> Iterator[int]:
        """Yield rows by their distance to the gold, ties in their order. The first ones are selected, not sorted.

        Args:
            rows: Distinct rows.
            positive: The gold row.
            first: Number of rows that are usually enough; all others are sorted only if they are read, too.
        """
        distances = np.hypot(*(self.table.metres[rows] - self.table.metres[positive]).T)
        near = np.ones(len(rows), np.bool_)
        if len(rows) > first:
            near = distances <= np.partition(distances, first - 1)[first - 1]
        for part in (near, ~near):
            yield from rows[part][np.argsort(distances[part], kind="stable")].tolist()

    def _choose(
        self, positives: list[int], sources: dict[str, Iterable[int]], n: int, rng: np.random.Generator
    ) -> MinedNegatives:
        """Return ``n`` rows: the sources by their shares, then the remaining rows of any source, shuffled."""
        used = {self.table.keys[positive] for positive in positives}
        mined = MinedNegatives()

        def take(source: str, rows: Iterable[int], up_to: int) -> None:
            for row in rows:
                if len(mined.rows) >= min(up_to, n):
                    return
                if self.table.keys[row] not in used and not any(self._same_place(p, row) for p in positives):
                    used.add(self.table.keys[row])
                    mined.rows.append(row)
                    mined.sources.append(source)

        for source, share in SHARES.items():
            take(source, sources[source], len(mined.rows) + round(n * share))
        for source in (LEXICAL, "near"):
            take(source, sources[source], n)
        if len(mined.rows) < n:
            take(RANDOM, rng.permutation(len(self.table.texts)).tolist(), n)
        order = rng.permutation(len(mined.rows))
        return MinedNegatives([mined.rows[i] for i in order], [mined.sources[i] for i in order])

    def _same_place(self, positive: int, row: int) -> bool:
        """Return whether a row may be the place of a gold row."""
        table = self.table
        if table.groups[row] == table.groups[positive]:
            return True
        if not table.names[row] or table.names[row] != table.names[positive]:
            return False
        return bool(np.hypot(*(table.metres[row] - table.metres[positive])) < SAME_PLACE_M)


class RecordNegativeMiner:
    """Mines new negatives for candidate records from the distinct ones of some passages."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self._passages = first_by_key(passages, lambda passage: passage.key)
        self._row = {passage.key: row for row, passage in enumerate(self._passages)}
        lng, lat = (np.array([getattr(p, name) for p in self._passages]) for name in ("lng", "lat"))
        parsed = [parse_surroundings(p.text) for p in self._passages]
        names = [reading_key(parts.name) for parts in parsed]
        table = MiningTable(
            texts=[p.text for p in self._passages],
            keys=[reading_key(p.text) for p in self._passages],
            names=names,
            brands=[reading_key(parts.brand) or name for parts, name in zip(parsed, names, strict=True)],
            metres=local_metres(lng, lat, float(np.median(lng)), float(np.median(lat))),
            compounds=[parts.compound for parts in parsed],
            crossings=[parts.crossing for parts in parsed],
            groups=range(len(parsed)),
        )
        self._miner = NegativeMiner(table)

    def __len__(self) -> int:
        return len(self._passages)

    def mine(self, records: Sequence[Record], n: int, seed: int) -> tuple[list[Record], list[MinedNegatives]]:
        """Return the records with ``n`` mined negatives each, and those with their sources. See ``NegativeMiner``."""
        gold = [[self._row[p.key] for p in r.positives] for r in records]
        mined = self._miner.mine([r.query for r in records], gold, n, seed)
        negatives = [[self._passages[row] for row in own.rows] for own in mined]
        return [replace(r, negatives=own) for r, own in zip(records, negatives, strict=True)], mined


def all_passages(records: Iterable[Record], pois: pd.DataFrame | None) -> list[Passage]:
    """Return the passages of records, then the rows of a POI table as passages without docid."""
    passages = [p for record in records for p in record.passages]
    if pois is not None:
        passages += map(Passage, pois["address"], pois["lng"].tolist(), pois["lat"].tolist())
    return passages


def count_by_source(mined: Iterable[MinedNegatives]) -> dict[str, int]:
    """Return the number of negatives of each source, largest first."""
    return dict(Counter(source for own in mined for source in own.sources).most_common())


def _rows_by_value(values: Sequence[str | int]) -> dict[str | int, NDArray[np.int64]]:
    """Return the rows of each value, ascending. Missing values have none."""
    rows: dict[str | int, list[int]] = defaultdict(list)
    for row, value in enumerate(values):
        if value not in ("", -1):
            rows[value].append(row)
    return {value: np.array(own, np.int64) for value, own in rows.items()}
