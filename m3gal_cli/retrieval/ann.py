"""Approximate search by faiss: quantised codes choose candidates, the stored vectors give their scores.

Inverted lists over k-means cells hold the codes (Jégou et al. 2011, "Product Quantization for Nearest Neighbor
Search"); the candidates of the cells nearest to a query are scored again in float32, so that scores and the order of
what is found are those of exact search. Family and parameters are chosen on the user's own vectors: the cheapest of
which the measured recall@10 against exact search reaches the target.

    INDEX/ann/cells.faiss, INDEX/ann/ann.json    the faiss index; its family and the settings found for each target
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.data.files import atomic_path, atomic_text, make_folder
from m3gal_cli.errors import InputError
from m3gal_cli.retrieval.area import Area
from m3gal_cli.retrieval.embed import Progress, QueryEncoder, Vectors
from m3gal_cli.retrieval.exact import ExactSearcher, products
from m3gal_cli.retrieval.index import Index, read_json
from m3gal_cli.retrieval.searcher import Found, best_of, nothing

FORMAT, FOLDER, CELLS, SETTINGS = 1, "ann", "cells.faiss", "ann.json"
RECALL_OF = 10  # neighbours that recall is measured over
PROBES = 400  # queries that it is measured with
REORDERED = (50, 100, 200, 400, 1000)  # candidates scored again, as tried
TRAINED_ON = 40  # vectors a cell that k-means sees
CERTAIN = 1.64  # standard errors that the measured recall lies above the target: 95% certain
TRIAL = 20  # one row in so many is tried before all are added, and so many times fewer candidates
FEW_ROWS = 100_000  # an area with fewer POIs is searched exactly: that takes no longer
Say = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """How far to look, and what that was measured to find.

    recall: mean share of the true 10 best that is found; ms: median of one query, without its encoding.
    """

    cells: int
    reorder: int
    recall: float
    ms: float


class AnnSearcher:
    """Approximate search over an index.

    Args:
        index: the vectors.
        cells: a trained faiss index of the same rows.
        setting: how far to look.
    """

    def __init__(self, index: Index, cells: Any, setting: Setting) -> None:
        self.index, self.cells, self.setting = index, cells, setting
        self.exact = ExactSearcher(index)

    def search(self, queries: Vectors, k: int, areas: Sequence[Area | None] | None = None) -> Found:
        """As ``Searcher.search``; of an area with few POIs exact."""
        queries = np.ascontiguousarray(queries, np.float32)
        found = nothing(len(queries), k)
        free = [i for i in range(len(queries)) if areas is None or areas[i] is None]
        if free:
            wide = max(1.0, k / RECALL_OF)
            for i, rows in zip(free, self._candidates(queries[free], wide, k), strict=True):
                _rescore(self.index, found, i, rows, queries[i], k)
        groups: dict[Area, list[int]] = {}
        for i, area in enumerate(areas or ()):
            if area is not None:
                groups.setdefault(area, []).append(i)
        for area, chosen in groups.items():
            self._within(area, chosen, queries, k, found)
        return found

    def _within(self, area: Area, chosen: list[int], queries: Vectors, k: int, found: Found) -> None:
        allowed = self.index.rows_in(area)
        exact, missing = len(allowed) <= FEW_ROWS, chosen
        if not exact:
            inside = np.zeros(len(self.index), bool)
            inside[allowed] = True
            wide = max(1.0, k / RECALL_OF) * len(self.index) / len(allowed)
            parts = [rows[inside[rows]] for rows in self._candidates(queries[chosen], wide, k)]
            missing = [i for i, rows in zip(chosen, parts, strict=True) if len(rows) < k]
            for i, rows in zip(chosen, parts, strict=True):
                _rescore(self.index, found, i, rows, queries[i], k)
        if missing:
            answer = self.exact.among(allowed, queries[missing], k)
            found.rows[missing], found.scores[missing] = answer.rows, answer.scores

    def _candidates(self, queries: Vectors, wide: float, k: int) -> list[NDArray[np.int64]]:
        """Rows worth scoring, a query at a time; ``wide`` times as many as for ten neighbours anywhere."""
        probe = min(self.cells.nlist, int(np.ceil(self.setting.cells * wide)))
        take = min(len(self.index), max(k, int(np.ceil(self.setting.reorder * wide))))
        rows = _probe(self.cells, queries, probe, take)
        return [own[own >= 0] for own in rows]


def open_ann(
    index: Index,
    embedder: QueryEncoder,
    recall: float,
    say: Say,
    progress: Progress,
    families: Sequence[str] | None = None,
) -> AnnSearcher:
    """The approximate searcher of an index: read, or made and tuned, and kept beside the vectors.

    Args:
        embedder: encodes the queries that recall is measured with.
        recall: the least recall@10 against exact search, in (0, 1).
        say: is told what was chosen, and where the target is not reached.
        progress: rows added and rows in all.
        families: faiss factory names to try, in this order; None: those that suit the size.

    Raises:
        InputError: ``recall`` is out of range, a full disk.
    """
    if not 0 < recall < 1:
        raise InputError(f"recall {recall:g} is out of range", hint="Give a share below 1, e.g. --recall 0.95.")
    import faiss

    folder = index.path / FOLDER
    known = read_json(folder / SETTINGS)
    if not isinstance(known, dict) or known.get("format") != FORMAT:
        known = None
    if known and (own := known["settings"].get(f"{recall:g}")):
        if (cells := _read(folder / CELLS, index)) is not None:
            return AnnSearcher(index, cells, Setting(**own))
        known = None
    probes = _Probes(index, embedder)
    tried = [known["family"]] if known else list(families or families_for(len(index), index.dim))
    best: tuple[str, Any, Setting] | None = None
    centres: Vectors | None = None
    for family in tried:
        cells = _read(folder / CELLS, index) if known else None
        if cells is None:
            cells = train_cells(index, family, say, centres)
            centres = cells.quantizer.reconstruct_n(0, cells.nlist)
            if family != tried[-1] and (found := probes.trial(index, cells)) < recall:
                say(f"approximate search: {family} finds {found:.3f} of a sample: too coarse for these vectors")
                continue
            fill_cells(index, cells, progress)
        setting = probes.choose(index, cells, recall)
        if best is None or setting.recall > best[2].recall:
            best = (family, cells, setting)
        if setting.recall >= recall:
            break
    assert best is not None
    family, cells, setting = best
    make_folder(folder)
    with atomic_path(folder / CELLS) as temporary:
        faiss.write_index(cells, str(temporary))
    settings = (known or {}).get("settings", {}) | {f"{recall:g}": asdict(setting)}
    with atomic_text(folder / SETTINGS) as file:
        json.dump({"format": FORMAT, "family": family, "settings": settings}, file, indent=1)
    tell = f"approximate search: {family}, {setting.cells} cells a query, {setting.reorder} candidates scored: "
    say(tell + f"recall@{RECALL_OF} {setting.recall:.3f}, {setting.ms:.1f} ms a query")
    if setting.recall < recall:
        say(f"recall {recall:g} is not reached: --index exact finds all")
    return AnnSearcher(index, cells, setting)


def families_for(rows: int, dim: int) -> list[str]:
    """faiss factory names worth trying, the cheapest first: 4-bit codes of every fourth dimension, then a byte each."""
    cells = int(np.clip(2 ** round(np.log2(4 * np.sqrt(max(rows, 1)))), 1, 16384))
    cells = max(1, min(cells, rows // TRAINED_ON)) if rows < 3_900_000 else cells
    cells = min(cells, 4096) if rows < 4_000_000 else cells  # finding a row's cell is what building takes longest for
    parts = next((p for p in (dim // 4, dim // 2) if p and p % 2 == 0 and dim % p == 0), None)
    quick = [f"IVF{cells},PQ{parts}x4fs"] if parts and rows >= 1000 else []
    return [*quick, f"IVF{cells},SQ8" if rows >= 1000 else f"IVF{cells},Flat"]


def train_cells(index: Index, family: str, say: Say, centres: Vectors | None = None) -> Any:
    """A faiss index of this family, empty, trained on a sample of the vectors.

    Args:
        centres: of the cells, where they are known. Shape: (cells, D).
    """
    import faiss

    cells: Any = faiss.index_factory(index.dim, family, faiss.METRIC_INNER_PRODUCT)
    if centres is not None and len(centres) == cells.nlist:  # faiss looks for them no more
        cells.quantizer.add(centres)
    draw = np.random.default_rng(0)
    count = min(len(index), max(TRAINED_ON * cells.nlist, 10_000))
    sample = np.sort(draw.choice(len(index), count, replace=False))
    say(f"approximate search: training {family} on {count:,} of {len(index):,} vectors")
    cells.cp.min_points_per_centroid = 1  # no warning for small tables
    cells.train(index.vectors(sample))
    return cells


def fill_cells(index: Index, cells: Any, progress: Progress) -> None:
    """Add all rows of ``index``."""
    for first, shard in index.shards():
        cells.add(index.vectors(np.arange(first, first + len(shard))))
        progress(first + len(shard), len(index))


class _Probes:
    """Queries to measure recall with: addresses of POIs, most of them cut as people cut them; their truth."""

    def __init__(self, index: Index, embedder: QueryEncoder) -> None:
        draw = np.random.default_rng(1)
        rows = np.sort(draw.choice(len(index), min(PROBES, len(index)), replace=False))
        texts = index.pois["address"].take(rows).to_pylist()
        for i in (i for i in range(len(texts)) if i % 4):
            keep = max(2, len(texts[i]) // 2)
            start = int(draw.integers(0, max(1, len(texts[i]) - keep + 1)))
            end = start + keep if i % 4 == 1 else len(texts[i])  # most people leave out the region, which stands first
            texts[i] = texts[i][start:end].strip() or texts[i]
        self.vectors = embedder.queries(texts)
        self.truth = ExactSearcher(index).search(self.vectors, min(RECALL_OF, len(index))).rows

    def trial(self, index: Index, cells: Any) -> float:
        """Recall that the codes leave, all cells looked at, on one row in ``TRIAL``; ``cells`` comes back empty.

        The true neighbours in the sample are to be among the best by their codes, ``TRIAL`` times fewer than at most.
        """
        rows = np.arange(0, len(index), TRIAL)
        if len(rows) < RECALL_OF:
            return 1.0
        found, score = np.empty((0, len(self.vectors)), np.int64), np.empty((0, len(self.vectors)), np.float32)
        for first in range(0, len(rows), index.shard_rows):
            part = index.vectors(rows[first : first + index.shard_rows])
            cells.add(part)
            score = np.concatenate([score, part @ self.vectors.T])
            found = np.concatenate([found, np.repeat(rows[first : first + len(part), None], found.shape[1], axis=1)])
            keep = np.argpartition(-score, RECALL_OF - 1, axis=0)[:RECALL_OF]
            found, score = np.take_along_axis(found, keep, 0), np.take_along_axis(score, keep, 0)
        near = _probe(cells, self.vectors, cells.nlist, max(RECALL_OF, REORDERED[-1] // TRIAL)) * TRIAL
        cells.reset()
        return float(np.mean([np.isin(true, own).mean() for true, own in zip(found.T, near, strict=True)]))

    def choose(self, index: Index, cells: Any, target: float) -> Setting:
        """The quickest setting that reaches the target with 95% certainty; if none does, that with the best recall."""
        reached: list[Setting] = []
        best: Setting | None = None
        count = 1
        while True:
            probe = min(count, cells.nlist)
            take = min(REORDERED[-1], len(index))
            rows = _probe(cells, self.vectors, probe, take)
            for reorder in sorted({min(r, take) for r in REORDERED}):
                shares = self._shares(rows[:, :reorder])
                setting = Setting(probe, reorder, round(float(shares.mean()), 4), 0.0)
                if best is None or setting.recall > best.recall:
                    best = setting
                if shares.mean() - CERTAIN * shares.std() / np.sqrt(len(shares)) >= target:
                    reached.append(self._timed(index, cells, setting))
                    break
            enough = len(reached) >= 3 or (len(reached) > 1 and reached[-1].ms > 1.2 * reached[-2].ms)
            if probe == cells.nlist or enough:
                break
            count *= 2
        return min(reached, key=lambda s: s.ms) if reached else self._timed(index, cells, best)

    def _shares(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of the true neighbours found, a query. Shape: (Q, n) -> (Q,)."""
        return np.array([np.isin(true, found).mean() for true, found in zip(self.truth, rows, strict=True)])

    def _timed(self, index: Index, cells: Any, setting: Setting | None) -> Setting:
        assert setting is not None
        searcher, seconds = AnnSearcher(index, cells, setting), []
        for query in self.vectors[:40]:
            began = time.perf_counter()
            searcher.search(query[None], RECALL_OF)
            seconds.append(time.perf_counter() - began)
        return Setting(setting.cells, setting.reorder, setting.recall, round(1000 * float(np.median(seconds)), 3))


def _probe(cells: Any, queries: Vectors, probe: int, take: int) -> NDArray[np.int64]:
    """The ``take`` best rows of each query by their codes, in ``probe`` cells; -1 where there are fewer."""
    cells.nprobe = probe
    rows: NDArray[np.int64] = cells.search(queries, take)[1]
    return rows


def _rescore(index: Index, found: Found, i: int, rows: NDArray[np.int64], query: Vectors, k: int) -> None:
    rows, scores = best_of(rows, products(index.vectors(rows), query), k)
    found.rows[i, : len(rows)], found.scores[i, : len(rows)] = rows, scores


def _read(path: Path, index: Index) -> Any | None:
    """The faiss index in a file, or None where there is none that fits."""
    import faiss

    try:
        cells = faiss.read_index(str(path))
    except RuntimeError:
        return None
    fits = isinstance(cells, faiss.IndexIVF) and cells.ntotal == len(index) and cells.d == index.dim
    return cells if fits else None
