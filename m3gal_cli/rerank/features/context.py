"""The argument of features: a query, its candidates, and the intermediate results that several features need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.queries import Query
from m3gal_cli.geo.distances import haversine_m
from m3gal_cli.rerank.candidates import Candidates, Floats
from m3gal_cli.rerank.features.address_terms import AddressTerms, AddressTermsCache, Keys, find_keys
from m3gal_cli.text.ngrams import Codes
from m3gal_cli.text.normalise import normalise


class QueryPart(NamedTuple):
    """The query or a half of it."""

    codes: Codes  # (G,), its distinct character 1-2-grams, ascending
    shares: Floats  # (G,), idf of each n-gram divided by their sum
    matches: NDArray[np.bool_]  # (n, G), whether the address of a candidate has an n-gram


class FeatureContext:
    """The argument of every feature: a query and its n candidates, at least one.

    Attributes:
        terms: Terms of the candidates' addresses.
        query_text: The normalised query.
    """

    def __init__(self, query: Query, candidates: Candidates, cache: AddressTermsCache) -> None:
        self.query, self.candidates, self.cache = query, candidates, cache
        self.terms: AddressTerms = cache.get(candidates.addresses)
        self.query_text = normalise(query.text)
        self._shared: dict[Callable[[FeatureContext], Floats], Floats] = {}

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def parts(self) -> list[QueryPart]:
        """The query, its first half (half of its characters, rounded down) and its second half."""
        text, half = self.query_text, len(self.query_text) // 2
        ngrams = [self.cache.document_frequencies.query_ngrams(part) for part in (text, text[:half], text[half:])]
        codes = np.unique(np.concatenate([part.codes for part in ngrams]))
        matches = self.find(self.terms.ngrams, self.cache.ngram_keys(codes))
        return [QueryPart(p.codes, p.shares, matches[:, np.searchsorted(codes, p.codes)]) for p in ngrams]

    @cached_property
    def query_distances_m(self) -> Floats | None:
        """Metres from the query location to each candidate; None without a query location. Shape: (n,)."""
        if self.query.lng is None or self.query.lat is None:
            return None
        return np.asarray(haversine_m(self.query.lng, self.query.lat, self.candidates.lng, self.candidates.lat))

    def shared(self, compute: Callable[[FeatureContext], Floats]) -> Floats:
        """Return the result of a function of this context, which is called once."""
        if compute not in self._shared:
            self._shared[compute] = compute(self)
        return self._shared[compute]

    def find(self, rows: Sequence[Keys], wanted: Keys) -> NDArray[np.bool_]:
        """Return which wanted keys occur in the row of each candidate. Shape: n rows, (G,) -> (n, G)."""
        out = np.zeros((len(self), len(wanted)), bool)
        out[find_keys(rows, wanted)] = True
        return out
