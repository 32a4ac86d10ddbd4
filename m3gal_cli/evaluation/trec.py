"""Run and qrels files of TREC, from which other tools compute the same metrics.

Tools read scores as float32, sort by them, and break ties by their own rules (trec_eval: by document id, descending).
So gold is written last among equal scores, and a score that is not below the one before becomes the next lower float32.

Gold duplicates are one document, named by the first row, so that tools compute the same recall. Other rows are a
document each, as the ranks count them. A query without gold in the table gets a relevant document that is in no run, so
it counts as a miss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.result import TopMatches
from m3gal_cli.files import atomic_text

TAG, MISSING = "m3gal", "not-in-the-table"
_SPACES = re.compile(r"\s+")


def document_ids(poi_ids: Iterable[object]) -> list[str]:
    """Return the ids of rows with white space replaced by ``_``; a repeated id gets ``#`` and the row number."""
    out: list[str] = []
    taken: set[str] = {MISSING}
    for row, value in enumerate(poi_ids):
        name = _SPACES.sub("_", str(value).strip())
        while name in taken:
            name = f"{name}#{row}"
        taken.add(name)
        out.append(name)
    return out


def query_ids(records: Sequence[Record]) -> list[str]:
    """Return the records' ids if all have one and all differ, else their numbers from 1."""
    own = [_SPACES.sub("_", (r.query_id or "").strip()) for r in records]
    if all(own) and len(set(own)) == len(own):
        return own
    return [str(i) for i in range(1, len(records) + 1)]


def strictly_decreasing(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Round scores that do not increase to float32 values that decrease strictly. Shape: (n,) -> (n,)."""
    out = scores.astype(np.float32)
    for i in range(1, len(out)):
        if out[i] >= out[i - 1]:
            out[i] = np.nextafter(out[i - 1], np.float32(-np.inf))
    return out


def write_run(path: Path, top: TopMatches, queries: Sequence[str], documents: Sequence[str]) -> None:
    """Write ``query Q0 document rank score tag`` lines, atomically; with the suffix .gz compressed."""
    with atomic_text(path) as file:
        for query, (rows, scores) in zip(queries, top.matches, strict=True):
            for rank, (row, score) in enumerate(
                zip(rows.tolist(), strictly_decreasing(scores).tolist(), strict=True), 1
            ):
                file.write(f"{query} Q0 {documents[row]} {rank} {score:.9g} {TAG}\n")


def write_qrels(path: Path, top: TopMatches, queries: Sequence[str], documents: Sequence[str]) -> None:
    """Write ``query 0 document 1`` lines for gold documents, atomically; with the suffix .gz compressed."""
    bounds = np.searchsorted(top.gold[:, 0], np.arange(len(queries) + 1))
    with atomic_text(path) as file:
        for query, start, end in zip(queries, bounds[:-1], bounds[1:], strict=True):
            names = [documents[row] for row in top.gold[start:end, 1].tolist()] or [MISSING]
            file.writelines(f"{query} 0 {name} 1\n" for name in names)
