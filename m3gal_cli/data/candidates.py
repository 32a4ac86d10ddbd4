"""Candidate sets: for each query the POIs that are easily taken for the one meant. Deterministic by seed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

NEAR_SHARE, NAME_SHARE = 0.3, 0.3  # of the negatives; the rest is lexically close
TWIN_M = 100.0  # a POI of the same name this near may well be the same place
_BLOCK = 256


@dataclass(frozen=True)
class Pois:
    """The POI table as the miner sees it.

    Attributes:
        texts: The rows' texts.
        reads: What each text reads as; equal readings are never each other's negatives.
        names: What each name reads as ("" without a name).
        brands: A brand or a name without its branch, "" without.
        where: (N, 2) metres, east and north.
    """

    texts: Sequence[str]
    reads: Sequence[str]
    names: Sequence[str]
    brands: Sequence[str]
    where: np.ndarray


def mine(pois: Pois, queries: Sequence[str], gold: Sequence[int], n: int, seed: int) -> list[list[int]]:
    """Negatives for every query.

    About a third are namesakes and branches of the same brand (nearest first), a third the nearest places, the rest the
    texts closest to the query by character 1-2-grams. A row that reads like the gold's, or a namesake of the gold
    within ``TWIN_M``, is never taken. Where one kind runs short the others fill up.

    Args:
        pois: The POI table.
        queries: Query texts.
        gold: For each query the row that it means.
        n: Negatives a query.
        seed: Orders the candidates.

    Returns:
        Row numbers for each query, ``n`` of them unless the table is too small.
    """
    close = lexical_neighbours(pois.texts, queries, min(len(pois.texts), 4 * n + 8))
    near_k = min(len(pois.texts), 4 * n + 8)
    _, near = cKDTree(pois.where).query(pois.where[list(gold)], k=near_k)
    near = near.reshape(len(queries), near_k)
    by_name, by_brand = _groups(pois.names), _groups(pois.brands)
    out = []
    for q, positive in enumerate(gold):
        kin = [*by_name.get(pois.names[positive], []), *by_brand.get(pois.brands[positive], [])]
        kin = _nearest_first(kin, positive, pois.where)
        out.append(_choose(pois, positive, (kin, list(near[q]), list(close[q])), n, np.random.default_rng([seed, q])))
    return out


def _groups(values: Sequence[str]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for i, value in enumerate(values):
        if value:
            groups[value].append(i)
    return groups


def _nearest_first(rows: list[int], to: int, where: np.ndarray) -> list[int]:
    rows = list(dict.fromkeys(rows))
    away = np.hypot(*(where[rows] - where[to]).T) if rows else np.zeros(0)
    return [rows[i] for i in np.argsort(away, kind="stable")]


def _choose(
    pois: Pois, positive: int, sources: tuple[list[int], list[int], list[int]], n: int, rng: np.random.Generator
) -> list[int]:
    """``n`` rows from the three sources by their shares, then whatever else there is, in random order."""
    taken: set[str] = {pois.reads[positive]}
    chosen: list[int] = []

    def take(rows: Sequence[int], up_to: int) -> None:
        for row in rows:
            if len(chosen) >= min(up_to, n):
                return
            if pois.reads[row] not in taken and not _twin(pois, positive, row):
                taken.add(pois.reads[row])
                chosen.append(int(row))

    kin, near, close = sources
    take(kin, round(n * NAME_SHARE))
    take(near, len(chosen) + round(n * NEAR_SHARE))
    take(close, n)
    take(near, n)
    if len(chosen) < n:
        take(list(rng.permutation(len(pois.texts))), n)
    return [chosen[i] for i in rng.permutation(len(chosen))]


def _twin(pois: Pois, positive: int, row: int) -> bool:
    if not pois.names[row] or pois.names[row] != pois.names[positive]:
        return False
    return bool(np.hypot(*(pois.where[row] - pois.where[positive])) < TWIN_M)


def lexical_neighbours(texts: Sequence[str], queries: Sequence[str], k: int) -> np.ndarray:
    """The ``k`` texts closest to each query by tf-idf cosine over character 1-2-grams; ties by row number.

    Shape:
        N texts, Q queries -> (Q, k) row numbers, closest first.
    """
    rows, vocabulary = _grams(texts, None)
    asked, _ = _grams(queries, vocabulary)
    seen = np.asarray((rows > 0).sum(axis=0)).ravel()
    idf = np.log((1.0 + len(texts)) / (1.0 + seen)) + 1.0
    rows, asked = _unit(rows, idf), _unit(asked, idf)
    out = np.zeros((len(queries), k), np.int64)
    for start in range(0, len(queries), _BLOCK):
        scores = (asked[start : start + _BLOCK] @ rows.T).toarray()
        top = (
            np.argpartition(-scores, k - 1, axis=1)[:, :k]
            if k < len(texts)
            else np.tile(np.arange(k), (len(scores), 1))
        )
        order = np.lexsort((top, -np.take_along_axis(scores, top, axis=1)))
        out[start : start + _BLOCK] = np.take_along_axis(top, order, axis=1)
    return out


def _grams(texts: Sequence[str], vocabulary: dict[str, int] | None) -> tuple[csr_matrix, dict[str, int]]:
    """Counts of character 1-2-grams; grams outside a given vocabulary are passed over."""
    known: dict[str, int] = {} if vocabulary is None else vocabulary
    columns: list[int] = []
    ends = [0]
    for text in texts:
        plain = re.sub(r"\s+", " ", text.casefold())
        grams = [*plain, *(plain[i : i + 2] for i in range(len(plain) - 1))]
        if vocabulary is None:
            columns += [known.setdefault(g, len(known)) for g in grams]
        else:
            columns += [known[g] for g in grams if g in known]
        ends.append(len(columns))
    counts = csr_matrix((np.ones(len(columns), np.float32), columns, ends), shape=(len(texts), max(len(known), 1)))
    counts.sum_duplicates()
    return counts, known


def _unit(counts: csr_matrix, idf: np.ndarray) -> csr_matrix:
    weighted = counts.multiply(idf[None, :].astype(np.float32)).tocsr()
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scale = csr_matrix((1.0 / np.maximum(norms, 1e-9), (np.arange(len(norms)), np.arange(len(norms)))))
    return (scale @ weighted).tocsr()
