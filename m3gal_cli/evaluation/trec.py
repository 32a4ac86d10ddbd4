"""Run and qrels files of TREC, for other tools to judge.

A tool sorts a run again, by score and then by its own rule (trec_eval: by id, backwards), and reads scores as float32.
So the scores that are written fall strictly: of exactly equal ones gold stands last, as in our ranks, and each that
would not be below the one before is the next lower float32. A tool then judges the order that we judge.

A place that stands in several rows of the table is one document where it is gold, by its first row, so that recall over
relevant documents is ours; other rows are a document each, as our ranks count them. A query whose gold is not in the
table is relevant to a document that is in no run, so that it counts as a miss.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.records import Record
from m3gal_cli.evaluation.result import Found
from m3gal_cli.files import atomic_text

TAG, MISSING = "m3gal", "not-in-the-table"
_BLANK = re.compile(r"\s+")


def document_ids(poi_ids: Iterable[object]) -> list[str]:
    """Ids of the rows, blanks replaced by ``_``; one that an earlier row has gets ``#`` and the number of the row."""
    out: list[str] = []
    taken: set[str] = {MISSING}
    for row, value in enumerate(poi_ids):
        name = _BLANK.sub("_", str(value).strip())
        while name in taken:
            name = f"{name}#{row}"
        taken.add(name)
        out.append(name)
    return out


def query_ids(records: Sequence[Record]) -> list[str]:
    """The records' own ids where all have one and these differ, else their numbers from 1."""
    own = [_BLANK.sub("_", (r.query_id or "").strip()) for r in records]
    if all(own) and len(set(own)) == len(own):
        return own
    return [str(i) for i in range(1, len(records) + 1)]


def falling(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scores that do not rise, as float32 that fall strictly. Shape: (n,) -> (n,)."""
    out = scores.astype(np.float32)
    for i in range(1, len(out)):
        if out[i] >= out[i - 1]:
            out[i] = np.nextafter(out[i - 1], np.float32(-np.inf))
    return out


def write_run(path: Path, found: Found, queries: Sequence[str], documents: Sequence[str]) -> None:
    """``query Q0 document rank score tag``, a line a match (.gz too), atomically."""
    with atomic_text(path) as file:
        for query, (rows, scores) in zip(queries, found.matches, strict=True):
            for rank, (row, score) in enumerate(zip(rows.tolist(), falling(scores).tolist(), strict=True), 1):
                file.write(f"{query} Q0 {documents[row]} {rank} {score:.9g} {TAG}\n")


def write_qrels(path: Path, found: Found, queries: Sequence[str], documents: Sequence[str]) -> None:
    """``query 0 document 1``, a line a gold document (.gz too), atomically."""
    bounds = np.searchsorted(found.gold[:, 0], np.arange(len(queries) + 1))
    with atomic_text(path) as file:
        for query, start, end in zip(queries, bounds[:-1], bounds[1:], strict=True):
            names = [documents[row] for row in found.gold[start:end, 1].tolist()] or [MISSING]
            file.writelines(f"{query} 0 {name} 1\n" for name in names)
