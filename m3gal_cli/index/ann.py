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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import Progress, QueryEncoder, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, make_folder
from m3gal_cli.geo.filters import Area
from m3gal_cli.index.exact_numpy import FEW, best_among
from m3gal_cli.index.index import Index, read_json
from m3gal_cli.index.searcher import Found, best_of, by_area, nothing, products

if TYPE_CHECKING:
    from m3gal_cli.index.exact import ExactSearcher

FORMAT, FOLDER, CELLS, SETTINGS = 1, "ann", "cells.faiss", "ann.json"
RECALL_OF = 10  # neighbours that recall is measured over
PROBES = 400  # queries that it is measured with
REORDERED = (50, 100, 200, 400, 1000)  # candidates scored again, as tried
TRAINED_ON = 40  # vectors a cell that k-means sees
CERTAIN = 1.64  # standard errors that the measured recall lies above the target: 95% certain
WIDER = 1.4  # cells from one setting that is tried to the next
TRIAL = 20  # one row in so many is tried before all are added, and so many times fewer candidates
FEW_ROWS = 100_000  # an area with fewer POIs is searched exactly: that takes no longer
Log = Callable[[str], None]


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

    @cached_property
    def exact(self) -> ExactSearcher:
        """Searches areas with few POIs for many queries at once; torch comes with the first of these."""
        from m3gal_cli.index.exact import ExactSearcher

        return ExactSearcher(self.index)

    def search(self, queries: Vectors, k: int, areas: Sequence[Area | None] | None = None) -> Found:
        """As ``Searcher.search``; of an area with few POIs exact."""
        queries = np.ascontiguousarray(queries, np.float32)
        found = nothing(len(queries), k)
        for area, chosen in by_area(len(queries), areas).items():
            if area is not None:
                self._within(area, chosen, queries, k, found)
                continue
            short = []
            for i, rows in zip(chosen, self._candidates(queries[chosen], 1.0, k), strict=True):
                if len(rows) < min(k, len(self.index)):
                    short.append(i)
                else:
                    _rescore(self.index, found, i, rows, queries[i], k)
            if short:  # the cells held too few
                found.rows[short], found.scores[short] = self.exact.search(queries[short], k)
        return found

    def _within(self, area: Area, chosen: list[int], queries: Vectors, k: int, found: Found) -> None:
        allowed = self.index.rows_in(area)
        exact, missing = len(allowed) <= FEW_ROWS, chosen
        if not exact:
            inside = np.zeros(len(self.index), bool)
            inside[allowed] = True
            wide = len(self.index) / len(allowed)
            parts = [rows[inside[rows]] for rows in self._candidates(queries[chosen], wide, k)]
            missing = [i for i, rows in zip(chosen, parts, strict=True) if len(rows) < k]
            for i, rows in zip(chosen, parts, strict=True):
                _rescore(self.index, found, i, rows, queries[i], k)
        if missing:
            few = len(missing) <= FEW
            own = queries[missing]
            answer = best_among(self.index, allowed, own, k) if few else self.exact.among(allowed, own, k)
            found.rows[missing], found.scores[missing] = answer.rows, answer.scores

    def _candidates(self, queries: Vectors, wide: float, k: int) -> list[NDArray[np.int64]]:
        """Rows worth scoring, a query at a time; ``wide`` times as many as anywhere.

        The cells that hold the best ten hold most of the best thousand too (.951 of them where .972 of ten, in 307 of
        4096 cells of a million places; .99 in three times as many), so that the fourth root of k is enough.
        """
        deeper = max(1.0, k / RECALL_OF) ** 0.25
        holding = 4 * k * self.cells.nlist / len(self.index)  # cells of which some are small
        probe = min(self.cells.nlist, int(np.ceil(max(self.setting.cells * deeper, holding) * wide)))
        most = max(self.setting.reorder + max(k - RECALL_OF, 0), k)
        take = min(len(self.index), int(np.ceil(most * wide)))
        rows = _probe(self.cells, queries, probe, take)
        return [own[own >= 0] for own in rows]


def open_ann(
    index: Index,
    encoder: QueryEncoder,
    recall: float,
    log: Log,
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

    folder, name = index.path / FOLDER, f"{recall:g}"
    known = read_json(folder / SETTINGS)
    cells = None
    if isinstance(known, dict) and known.get("format") == FORMAT:
        cells = _read(folder / CELLS, index, known.get("bytes"))
    if cells is not None and name in known["settings"]:
        return AnnSearcher(index, cells, Setting(**known["settings"][name]))
    probes = _Probes(index, encoder)
    if cells is not None:
        family, settings, size = known["family"], known["settings"], known["bytes"]
        setting = probes.choose(cells, recall)
    else:
        names = list(families or families_for(len(index), index.dim))
        family, cells, setting = _made(index, probes, recall, names, log, progress)
        make_folder(folder)
        with atomic_path(folder / CELLS) as temporary:
            faiss.write_index(cells, str(temporary))
        settings, size = {}, (folder / CELLS).stat().st_size
    with atomic_text(folder / SETTINGS) as file:
        settings |= {name: asdict(setting)}
        json.dump({"format": FORMAT, "family": family, "bytes": size, "settings": settings}, file, indent=1)
    tell = f"approximate search: {family}, {setting.cells} cells a query, {setting.reorder} candidates scored: "
    log(tell + f"recall@{RECALL_OF} {setting.recall:.3f}, {setting.ms:.1f} ms a query")
    if setting.recall < recall:
        log(f"recall {recall:g} is not reached: --index exact finds all")
    return AnnSearcher(index, cells, setting)


def _made(
    index: Index, probes: _Probes, recall: float, families: list[str], log: Log, progress: Progress
) -> tuple[str, Any, Setting]:
    """The first family that reaches the target, else the best: its name, its cells with all rows, its setting."""
    best: tuple[str, Any, Setting] | None = None
    centres: Vectors | None = None
    for family in families:
        cells = train_cells(index, family, log, centres)
        centres = cells.quantizer.reconstruct_n(0, cells.nlist)
        if family != families[-1] and (found := probes.trial(cells)) < recall:
            log(f"approximate search: {family} finds {found:.3f} of a sample: too coarse for these vectors")
            continue
        fill_cells(index, cells, progress)
        setting = probes.choose(cells, recall)
        if best is None or setting.recall > best[2].recall:
            best = (family, cells, setting)
        if setting.recall >= recall:
            break
    assert best is not None
    return best


def families_for(rows: int, dim: int) -> list[str]:
    """faiss factory names worth trying, the cheapest first: 4-bit codes of every fourth dimension, then a byte each."""
    cells = int(np.clip(2 ** round(np.log2(4 * np.sqrt(max(rows, 1)))), 1, 16384))
    cells = max(1, min(cells, rows // TRAINED_ON)) if rows < 3_900_000 else cells
    cells = min(cells, 4096) if rows < 4_000_000 else cells  # finding a row's cell is what building takes longest for
    parts = next((p for p in (dim // 4, dim // 2) if p and p % 2 == 0 and dim % p == 0), None)
    quick = [f"IVF{cells},PQ{parts}x4fs"] if parts and rows >= 1000 else []
    return [*quick, f"IVF{cells},SQ8" if rows >= 1000 else f"IVF{cells},Flat"]


def train_cells(index: Index, family: str, log: Log, centres: Vectors | None = None) -> Any:
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
    log(f"approximate search: training {family} on {count:,} of {len(index):,} vectors")
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

    def __init__(self, index: Index, encoder: QueryEncoder) -> None:
        self.index = index
        draw = np.random.default_rng(1)
        rows = np.sort(draw.choice(len(index), min(PROBES, len(index)), replace=False))
        texts = index.pois["address"].take(rows).to_pylist()
        for i in (i for i in range(len(texts)) if i % 4):
            keep = max(2, len(texts[i]) // 2)
            start = int(draw.integers(0, max(1, len(texts[i]) - keep + 1)))
            end = start + keep if i % 4 == 1 else len(texts[i])  # most people leave out the region, which stands first
            texts[i] = texts[i][start:end].strip() or texts[i]
        from m3gal_cli.index.exact import ExactSearcher

        self.vectors = encoder.queries(texts)
        self.truth = ExactSearcher(index).search(self.vectors, min(RECALL_OF, len(index))).rows

    def trial(self, cells: Any) -> float:
        """Recall that the codes leave, all cells looked at, on one row in ``TRIAL``; ``cells`` comes back empty.

        The true neighbours in the sample are to be among the best by their codes, ``TRIAL`` times fewer than at most.
        """
        index = self.index
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

    def choose(self, cells: Any, target: float) -> Setting:
        """The quickest setting that reaches the target with 95% certainty; if none does, that with the best recall."""
        reached: list[Setting] = []
        best: Setting | None = None
        count = 1
        while True:
            probe = min(count, cells.nlist)
            take = min(REORDERED[-1], len(self.index))
            rows = _probe(cells, self.vectors, probe, take)
            for reorder in sorted({min(r, take) for r in REORDERED}):
                shares = self._shares(rows[:, :reorder])
                setting = Setting(probe, reorder, round(float(shares.mean()), 4), 0.0)
                if best is None or setting.recall > best.recall:
                    best = setting
                if shares.mean() - CERTAIN * shares.std() / np.sqrt(len(shares)) >= target:
                    reached.append(self._timed(cells, setting))
                    break
            enough = len(reached) >= 3 or (len(reached) > 1 and reached[-1].ms > 1.2 * reached[-2].ms)
            if probe == cells.nlist or enough:
                break
            count = int(np.ceil(WIDER * count))
        return min(reached, key=lambda s: s.ms) if reached else self._timed(cells, best)

    def _shares(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Share of the true neighbours found, a query. Shape: (Q, n) -> (Q,)."""
        return np.array([np.isin(true, found).mean() for true, found in zip(self.truth, rows, strict=True)])

    def _timed(self, cells: Any, setting: Setting | None) -> Setting:
        assert setting is not None
        searcher, seconds = AnnSearcher(self.index, cells, setting), []
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


def _read(path: Path, index: Index, size: Any) -> Any | None:
    """The faiss index in a file of so many bytes, its codes mapped where faiss can; None where none is there that fits.

    Mapped, codes are read as they are looked at: a file cut short would end the process.
    """
    import faiss

    on_disk: Any = getattr(faiss, "OnDiskInvertedLists", None)  # not on Windows
    try:
        if path.stat().st_size != size:
            return None
        cells: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if on_disk else 0)
    except (OSError, RuntimeError):
        return None
    if not isinstance(cells, faiss.IndexIVF) or cells.ntotal != len(index) or cells.d != index.dim:
        return None
    codes: Any = cells.invlists
    lists = faiss.downcast_InvertedLists(codes)
    if on_disk and isinstance(lists, on_disk):
        lists.prefetch_nthread = 0  # threads that look ahead, started anew by every query, take longer than it
    return cells
