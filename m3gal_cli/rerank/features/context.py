"""The argument of features: a query, its candidates, and the intermediate results that several features need."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.features.query_terms import QueryTerms

Numbers = NDArray[np.int64]


class Matches(NamedTuple):
    """The terms of a query that the candidates have, as pairs of candidate and term.

    Shape:
        rows: (H,), candidates, ascending. terms: (H,), positions of terms. size: (n, G), candidates and terms.
    """

    rows: Numbers
    terms: Numbers
    size: tuple[int, int]

    def sums(self, weights: Floats) -> Floats:
        """Return the summed weights of the terms that each candidate has. Shape: (G,) -> (n,)."""
        return np.bincount(self.rows, weights[self.terms], self.size[0]).astype(np.float64, copy=False)

    def counts(self) -> Numbers:
        """Return the number of terms that each candidate has. Shape: -> (n,)."""
        return np.bincount(self.rows, minlength=self.size[0])

    def table(self) -> NDArray[np.bool_]:
        """Return whether each candidate has each term. Shape: -> (n, G)."""
        out = np.zeros(self.size, bool)
        out[self.rows, self.terms] = True
        return out

    def take(self, positions: Numbers) -> Matches:
        """Return the pairs of some candidates. Shape: (m,), ascending."""
        new = np.full(self.size[0], -1)
        new[positions] = np.arange(len(positions))
        rows = new[self.rows]
        return Matches(rows[rows >= 0], self.terms[rows >= 0], (len(positions), self.size[1]))


class FeatureContext:
    """The argument of every feature: a query and n candidates, at least one.

    Attributes:
        query: The query.
        text: The terms of the query.
        candidates: The candidates to score.
        all: The context of all candidates of the query, which may be neighbours of the scored ones.
        positions: Those of the candidates among all candidates, ascending. Shape: (n,).
    """

    def __init__(self, query: Query, text: QueryTerms, candidates: Candidates) -> None:
        self.query, self.text, self.candidates = query, text, candidates
        self.all, self.positions = self, np.arange(len(candidates))
        self._shared: dict[Callable[[FeatureContext], Any], Any] = {}
        self._matches: dict[str, Matches] = {}

    def __len__(self) -> int:
        return len(self.candidates)

    def take(self, positions: Numbers) -> FeatureContext:
        """Return the context of some of the candidates. Shape: (m,), ascending."""
        out = FeatureContext(self.query, self.text, self.candidates.take(positions))
        out.all, out.positions = self, positions
        return out

    def shared(self, compute: Callable[[FeatureContext], Any]) -> Any:
        """Return the result of a function of this context, which is called once."""
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        return self._shared[compute]

    def matches(self, name: str) -> Matches:
        """Return the n-grams or numbers of the query that are in a field of the terms of the candidates."""
        if name not in self._matches and name in self.all._matches:
            self._matches[name] = self.all._matches[name].take(self.positions)
        elif name not in self._matches:
            wanted = self.text.numbers if name in ("numbers", "name_numbers") else self.text.ngrams
            rows, terms = getattr(self.candidates.terms, name).find(wanted)
            self._matches[name] = Matches(rows, terms, (len(self), len(wanted)))
        return self._matches[name]

    @cached_property
    def query_distances_m(self) -> Floats | None:
        """Metres from the query location to each candidate; None without a query location. Shape: (n,)."""
        if self.query.lng is None or self.query.lat is None:
            return None
        return np.asarray(haversine_m(self.query.lng, self.query.lat, self.candidates.lng, self.candidates.lat))

    @cached_property
    def folded(self) -> list[tuple[str, str]]:
        """The folded name of each candidate, and its other folded parts."""
        return self.candidates.terms.folded()
