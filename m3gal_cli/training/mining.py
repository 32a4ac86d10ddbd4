"""Hard negatives by a bi-encoder: what it takes for the place that is meant, and is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import numpy as np

from m3gal_cli.data.reading import reads
from m3gal_cli.data.records import Record
from m3gal_cli.retrieval.embed import Embedder
from m3gal_cli.training.candidates import CandidateLists

MINED = 50
QUERIES_AT_ONCE = 256


def with_mined(
    records: Sequence[Record], embedder: Embedder, max_words: int | None = None, most: int = MINED
) -> list[Record]:
    """The records with the ``most`` best of all their passages, by the fused score, as further negatives.

    What may be the place that is meant is left out: what reads like a positive or lies exactly where one does. Of the
    others those that the record does not have yet come behind its own; equal scores stand in the order of
    ``CandidateLists``.

    Args:
        max_words: characters at which queries and passages are cut.
    """
    passages = CandidateLists(records).passages
    vectors = embedder.poi_texts([p.text[:max_words] for p in passages])
    vectors = vectors + embedder.locations([p.lng for p in passages], [p.lat for p in passages])
    queries = embedder.queries([r.query[:max_words] for r in records])
    readings, places = [reads(p.text) for p in passages], [p.key[1:] for p in passages]
    out = []
    for start in range(0, len(records), QUERIES_AT_ONCE):
        order = np.argsort(-(queries[start : start + QUERIES_AT_ONCE] @ vectors.T), axis=1, kind="stable")
        for record, best in zip(records[start : start + QUERIES_AT_ONCE], order, strict=True):
            read = {reads(p.text) for p in record.positives}
            taken = {p.key[1:] for p in record.positives}
            fit = (int(i) for i in best if readings[i] not in read and places[i] not in taken)
            found, known = [passages[i] for i in islice(fit, most)], {p.key for p in record.passages}
            out.append(replace(record, negatives=[*record.negatives, *(p for p in found if p.key not in known)]))
    return out
