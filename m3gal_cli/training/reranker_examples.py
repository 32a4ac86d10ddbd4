"""Examples for the fit of the reranker: queries with their candidates, once with and once without the gold.

A query whose POI is taken out of the candidates is one for which no POI is meant. So the fit learns "no match" from the
same queries.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from m3gal_cli.data.duplicates import first_by_key, place_key
from m3gal_cli.data.queries import Query
from m3gal_cli.data.query_styles import NO_PLACE, styled_queries
from m3gal_cli.data.records import Record
from m3gal_cli.encoders.protocol import Encoder, Progress
from m3gal_cli.index.sparse_table import SparseTable
from m3gal_cli.matching.candidate_table import CandidateTable, query_of
from m3gal_cli.matching.candidates import CandidateRows, table_candidates
from m3gal_cli.rerank.examples import network_inputs
from m3gal_cli.training.network_fit import Example

POOL_SIZE = 20_000  # POIs among which candidates are searched, besides the gold POIs


@dataclass(frozen=True)
class MeantRows:
    """A query and the rows of a table that it means; none if it means no POI."""

    query: Query
    rows: Collection[int]


class ExampleTable:
    """A POI table in which candidates of queries are searched.

    Args:
        pois: Distinct POIs, columns address, lng, lat (degrees, WGS-84).
        encoder: Encoder of queries and POIs.
        progress: Called with the number of encoded texts.
    """

    def __init__(self, pois: pd.DataFrame, encoder: Encoder, progress: Progress) -> None:
        self.addresses = pois["address"].tolist()
        self.lng, self.lat = (pois[name].to_numpy(np.float64) for name in ("lng", "lat"))
        self._encoder = encoder
        self._vectors = encoder.encode_poi_texts(self.addresses, progress)
        self._vectors = self._vectors + encoder.encode_locations(self.lng, self.lat)
        self._sparse = SparseTable.of(self.addresses, self.lng, self.lat)
        self._table = CandidateTable.of_table(self._sparse)

    def examples(self, queries: Sequence[MeantRows]) -> list[Example]:
        """Return one example of each query, and a second one without its gold."""
        if not queries:
            return []
        vectors = self._encoder.encode_queries([meant.query.text for meant in queries])
        out = []
        for meant, vector in zip(queries, vectors, strict=True):
            found = table_candidates(self._sparse, self._vectors, meant.query.text, vector)
            gold = np.isin(found.rows, list(meant.rows))
            out.append(self._example(meant.query, found, gold))
            if gold.any() and not gold.all():
                others = np.flatnonzero(~gold)
                out.append(self._example(meant.query, found.take(others), gold[others]))
        return out

    def _example(self, query: Query, found: CandidateRows, gold: np.ndarray) -> Example:
        inputs = network_inputs(query, self._table.candidates(found), self._sparse.frequencies)
        return Example(inputs.features, inputs.style, gold[inputs.shortlist.positions])

    def labelled(self, records: Sequence[Record]) -> list[MeantRows]:
        """Return the labelled queries whose gold is in the table."""
        places = zip(self.addresses, self.lng, self.lat, strict=True)
        row_of = {place_key(*place): row for row, place in enumerate(places)}
        meant = [MeantRows(query_of(r), [row_of[key] for key in r.gold if key in row_of]) for r in records]
        return [one for one in meant if one.rows]

    def made(self, count: int, seed: int, other_names: Mapping[int, Sequence[str]] | None = None) -> list[MeantRows]:
        """Make queries of every style, and texts that mean no place. See ``styled_queries``."""
        made = styled_queries(self.addresses, self.lng, self.lat, count, seed, other_names or {})
        queries = [MeantRows(Query(i, one.text, one.lng, one.lat), one.gold) for i, one in enumerate(made)]
        return queries + [MeantRows(Query(text, text), ()) for text in NO_PLACE]


def sample_pool(records: Sequence[Record], pois: pd.DataFrame | None, seed: int, size: int = POOL_SIZE) -> pd.DataFrame:
    """Return distinct POIs: all gold POIs and at most ``size`` of the table (without a table: of the negatives)."""
    positives = [(p.text, p.lng, p.lat) for r in records for p in r.positives]
    if pois is None:
        rows = [(p.text, p.lng, p.lat) for r in records for p in r.negatives]
        pois = pd.DataFrame(rows, columns=["address", "lng", "lat"])
    table = pois[["address", "lng", "lat"]]
    if len(table) > size:
        table = table.sample(size, random_state=seed)
    pool = pd.concat([pd.DataFrame(positives, columns=table.columns), table], ignore_index=True)
    distinct = first_by_key(pool.itertuples(index=False, name=None), lambda poi: place_key(*poi))
    return pd.DataFrame(distinct, columns=pool.columns)
