"""The sparse score in loops over sets of n-grams."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from m3gal_cli.text.terms import Terms


def ngrams_of(address: str) -> set[int]:
    """Return the n-grams of an address."""
    return set(Terms.of([address]).ngrams.values.tolist())


def sparse_scores(addresses: Sequence[str], query: str, live: Sequence[bool] | None = None) -> list[float]:
    """Return the score of each address; the rows that are not live do not count for the document frequencies."""
    rows, asked = [ngrams_of(address) for address in addresses], set(Terms.query(query).tolist())
    counted = rows if live is None else [row for row, is_live in zip(rows, live, strict=True) if is_live]
    frequency = Counter(gram for row in counted for gram in row)
    idf = {gram: math.log((1 + len(counted)) / (1 + frequency[gram])) + 1 for gram in asked}
    length = math.sqrt(sum(value**2 for value in idf.values())) * (math.log(1 + len(counted)) + 1)
    return [
        sum(idf[gram] ** 2 for gram in asked & row) / (length * math.sqrt(len(row))) if asked & row else 0.0
        for row in rows
    ]
