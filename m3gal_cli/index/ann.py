"""Approximate search with faiss: quantised codes select candidates, and the stored vectors score them.

The codes lie in inverted lists, one for each k-means cell (Jégou et al. 2011, "Product Quantization for Nearest
Neighbor Search"). A search reads the ``nprobe`` lists nearest to the query. It rescores the ``refine`` best candidates
in float32, so scores and their order are those of exact search. The index type and both parameters are tuned on the
user's vectors: the fastest ones whose recall@10, measured against exact search, reaches the target are stored.

    ann/cells.faiss  the faiss index of a segment
    ann/ann.json     its factory string, and the parameters for each target recall
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Progress, QueryEncoder, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, make_folder, read_json
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.exact_numpy import FEW_QUERIES, search_rows
from m3gal_cli.index.searcher import SearchResult, empty_result, inner_products, search_by_filter, top_k
from m3gal_cli.index.segment import Log, Segment

if TYPE_CHECKING:
    from pathlib import Path

    from m3gal_cli.index.exact import ExactSearcher

FORMAT, FOLDER, IVF_FILE, SETTINGS_FILE = 1, "ann", "cells.faiss", "ann.json"
SETTING_KEYS = ("cells", "reorder", "recall", "ms")  # fields of SearchSetting in the settings file
RECALL_K = 10
TUNING_QUERIES = 400  # the standard error of a recall of 0.9 is at most 0.015
REFINE_SIZES = (50, 100, 200, 400, 1000)
VECTORS_PER_LIST = 40  # training vectors for each list; faiss warns below 39
ONE_SIDED_95 = 1.64  # standard errors between target and measured recall: reached with 95% certainty
NPROBE_STEP = 1.4  # factor between two values of nprobe that are tried
SAMPLE_STEP = 20  # codes are tested on every 20th row before all rows are added
MAX_EXACT_ROWS = 100_000  # if a filter leaves fewer POIs, exact search takes no longer than approximate search


@dataclass(frozen=True)
class SearchSetting:
    """Parameters of a search, and the quality measured with them."""

    nprobe: int  # inverted lists that are read
    refine: int  # candidates that are rescored in float32
    recall: float  # mean recall@10 against exact search
    ms: float  # median milliseconds of one search, without encoding the query


class AnnSearcher:
    """Approximate search of a segment with a faiss IVF index of its rows."""

    def __init__(
        self, segment: Segment, ivf: Any, setting: SearchSetting, max_exact_rows: int = MAX_EXACT_ROWS
    ) -> None:
        self.segment, self.ivf, self.setting, self._max_exact_rows = segment, ivf, setting, max_exact_rows

    @cached_property
    def exact(self) -> ExactSearcher:
        """Return the exact searcher; its first use imports torch."""
        from m3gal_cli.index.exact import ExactSearcher

        return ExactSearcher(self.segment)

    def search(self, queries: Vectors, k: int, filters: Sequence[GeoFilter | None] | None = None) -> SearchResult:
        """Search as ``Searcher.search``. The result is exact if a filter leaves few POIs."""
        return search_by_filter(self.segment, queries, k, filters, self._search)

    def _search(self, queries: Vectors, k: int, allowed: NDArray[np.int64] | None) -> SearchResult:
        """Search approximately, and then exactly for the queries with fewer than k candidates."""
        if allowed is not None and len(allowed) <= self._max_exact_rows:
            return self._search_exactly(queries, k, allowed)
        result, incomplete = empty_result(len(queries), k), []
        for i, rows in enumerate(self._candidates(queries, k, allowed)):
            if len(rows) < min(k, self.segment.live_count):
                incomplete.append(i)
            else:
                result.put(i, top_k(rows, inner_products(self.segment.vectors(rows), queries[i]), k))
        if incomplete:
            exact = self._search_exactly(queries[incomplete], k, allowed)
            result.rows[incomplete], result.scores[incomplete] = exact
        return result

    def _search_exactly(self, queries: Vectors, k: int, allowed: NDArray[np.int64] | None) -> SearchResult:
        if allowed is None:
            return self.exact.search(queries, k)
        if len(queries) <= FEW_QUERIES:  # without torch
            return search_rows(self.segment, allowed, queries, k)
        return self.exact.search_rows(allowed, queries, k)

    def _candidates(self, queries: Vectors, k: int, allowed: NDArray[np.int64] | None) -> list[NDArray[np.int64]]:
        """Return the candidates of each query that are among the allowed rows, or among all live rows.

        For k > 10, nprobe grows with the fourth root of k, because the lists of the best ten rows contain most of the
        best thousand. On a million POIs, 307 of 4096 lists contain 97.2% of the best 10 and 95.1% of the best 1000.
        """
        size, passes = len(self.segment), self.segment.live
        count = self.segment.live_count
        if allowed is not None:
            passes, count = np.zeros(size, bool), len(allowed)
            passes[allowed] = True
        more = size / max(1, count)
        deeper = max(1.0, k / RECALL_K) ** 0.25
        least = 4 * k * self.ivf.nlist / size  # lists that hold k rows, even if some of them are small
        nprobe = min(self.ivf.nlist, int(np.ceil(max(self.setting.nprobe * deeper, least) * more)))
        refine = max(self.setting.refine + max(k - RECALL_K, 0), k)
        found = search_codes(self.ivf, queries, nprobe, min(size, int(np.ceil(refine * more))))
        candidates = [rows[rows >= 0] for rows in found]
        return candidates if passes is None else [rows[passes[rows]] for rows in candidates]


def open_ann(
    segment: Segment,
    encoder: QueryEncoder,
    recall: float,
    log: Log,
    progress: Progress,
    factories: Sequence[str] | None = None,
    refine_sizes: Sequence[int] = REFINE_SIZES,
) -> AnnSearcher:
    """Open the approximate searcher of a segment; build and tune it first if necessary.

    Args:
        segment: The segment to search.
        encoder: Encodes the queries for the tuning.
        recall: Target recall@10 against exact search, in (0, 1).
        log: Called with the chosen parameters.
        progress: Called with the rows added and the rows in all.
        factories: faiss factory strings to try in this order; by default those of ``factory_strings``.
        refine_sizes: Numbers of rescored candidates to try, ascending.

    Raises:
        InputError: ``recall`` is out of range, the folder is not writable, or the disk is full.
    """
    if not 0 < recall < 1:
        raise InputError(f"recall {recall:g} is out of range", hint="Give a share below 1, e.g. --recall 0.95.")
    import faiss

    folder, name = segment.path / FOLDER, f"{recall:g}"
    stored = read_json(folder / SETTINGS_FILE)
    ivf = None
    if isinstance(stored, dict) and stored.get("format") == FORMAT:
        ivf = _read_ivf(folder / IVF_FILE, segment, stored.get("bytes"))
    if ivf is not None and name in stored["settings"]:
        values = stored["settings"][name]
        return AnnSearcher(segment, ivf, SearchSetting(*(values[key] for key in SETTING_KEYS)))
    _check_writable(segment)
    tuner = Tuner(segment, encoder, refine_sizes)
    if ivf is not None:
        setting = tuner.tune(ivf, recall)
    else:
        factory, ivf, setting = _build(
            segment, tuner, recall, list(factories or factory_strings(len(segment), segment.dim)), log, progress
        )
        make_folder(folder)
        with atomic_path(folder / IVF_FILE) as temporary:
            faiss.write_index(ivf, str(temporary))
        size = (folder / IVF_FILE).stat().st_size
        stored = {"format": FORMAT, "family": factory, "bytes": size, "settings": {}}
    stored["settings"][name] = dict(zip(SETTING_KEYS, astuple(setting), strict=True))
    with atomic_text(folder / SETTINGS_FILE) as file:
        json.dump(stored, file, indent=1)
    parameters = f"{stored['family']}, nprobe {setting.nprobe}, {setting.refine} candidates rescored"
    log(f"approximate search: {parameters}: recall@{RECALL_K} {setting.recall:.3f}, {setting.ms:.1f} ms a query")
    if setting.recall < recall:
        log(f"recall {recall:g} is not reached; --index exact searches all POIs")
    return AnnSearcher(segment, ivf, setting)


def _check_writable(segment: Segment) -> None:
    try:
        make_folder(segment.path / FOLDER)
    except InputError as error:
        hint = "Prepare it where the folder can be written: m3gal index build --index ann. Or give --index exact."
        raise InputError(
            "approximate search needs files that the index lacks", where=segment.path, hint=hint
        ) from error


def _build(
    segment: Segment, tuner: Tuner, recall: float, factories: list[str], log: Log, progress: Progress
) -> tuple[str, Any, SearchSetting]:
    """Return factory string, filled index and setting of the first type that reaches the target, else of the best."""
    best: tuple[str, Any, SearchSetting] | None = None
    centroids: Vectors | None = None
    for factory in factories:
        ivf = train_ivf(segment, factory, log, centroids)
        centroids = ivf.quantizer.reconstruct_n(0, ivf.nlist)
        if factory != factories[-1] and (sample_recall := tuner.code_recall(ivf)) < recall:
            log(f"approximate search: the codes of {factory} are too coarse: recall {sample_recall:.3f} on a sample")
            continue
        for first, shard in segment.shards():
            ivf.add(segment.vectors(np.arange(first, first + len(shard))))
            progress(first + len(shard), len(segment))
        setting = tuner.tune(ivf, recall)
        if best is None or setting.recall > best[2].recall:
            best = (factory, ivf, setting)
        if setting.recall >= recall:
            break
    assert best is not None
    return best


def factory_strings(rows: int, dim: int) -> list[str]:
    """Return the faiss factory strings to try for ``rows`` vectors of width ``dim``, the fastest first.

    The first is product quantisation for fast scan, with 4 bits for 4 (else 2) dimensions. The second has a byte for
    each dimension. Below 1000 rows, vectors stay float32. The number of lists is 4 sqrt(rows), as faiss recommends, but
    each list needs 40 training vectors.
    """
    lists = int(np.clip(2 ** round(np.log2(4 * np.sqrt(max(rows, 1)))), 1, 16384))
    if rows < 3_900_000:
        lists = max(1, min(lists, rows // VECTORS_PER_LIST))
    if rows < 4_000_000:
        lists = min(lists, 4096)  # the time of a build grows with the number of lists
    codes = next((n for n in (dim // 4, dim // 2) if n and n % 2 == 0 and dim % n == 0), None)
    fast_scan = [f"IVF{lists},PQ{codes}x4fs"] if codes and rows >= 1000 else []
    return [*fast_scan, f"IVF{lists},SQ8" if rows >= 1000 else f"IVF{lists},Flat"]


def train_ivf(segment: Segment, factory: str, log: Log, centroids: Vectors | None = None) -> Any:
    """Train an empty faiss index on a sample of the vectors; use ``centroids`` of the lists, (lists, D), if given."""
    import faiss

    ivf: Any = faiss.index_factory(segment.dim, factory, faiss.METRIC_INNER_PRODUCT)
    if centroids is not None and len(centroids) == ivf.nlist:
        ivf.quantizer.add(centroids)
    count = min(len(segment), max(VECTORS_PER_LIST * ivf.nlist, 10_000))
    sample = np.sort(np.random.default_rng(0).choice(len(segment), count, replace=False))
    log(f"approximate search: training {factory} on {count:,} of {len(segment):,} vectors")
    ivf.cp.min_points_per_centroid = 1  # small tables would cause a warning
    ivf.train(segment.vectors(sample))
    return ivf


def search_codes(ivf: Any, queries: Vectors, nprobe: int, count: int) -> NDArray[np.int64]:
    """Return the ``count`` best rows of each query by their codes in ``nprobe`` lists, padded with -1."""
    ivf.nprobe = nprobe
    rows: NDArray[np.int64] = ivf.search(queries, count)[1]
    return rows


class Tuner:
    """Chooses parameters by recall and time, measured with queries made from addresses of the segment.

    A quarter of the queries are whole addresses, a quarter are random parts of addresses. Half of them are the ends of
    addresses, because most users leave out the region at the start.
    """

    def __init__(self, segment: Segment, encoder: QueryEncoder, refine_sizes: Sequence[int] = REFINE_SIZES) -> None:
        from m3gal_cli.index.exact import ExactSearcher

        self.segment, self.refine_sizes = segment, refine_sizes
        generator = np.random.default_rng(1)
        rows = np.sort(generator.choice(segment.live_rows(), min(TUNING_QUERIES, segment.live_count), replace=False))
        texts = segment.addresses_at(rows)
        for i in (i for i in range(len(texts)) if i % 4):
            length = max(2, len(texts[i]) // 2)
            start = int(generator.integers(0, max(1, len(texts[i]) - length + 1)))
            end = start + length if i % 4 == 1 else len(texts[i])
            texts[i] = texts[i][start:end].strip() or texts[i]
        self.queries = encoder.encode_queries(texts)
        self.nearest = ExactSearcher(segment).search(self.queries, min(RECALL_K, segment.live_count)).rows

    def code_recall(self, ivf: Any) -> float:
        """Return an estimate of the largest recall of an empty index, from every ``SAMPLE_STEP``-th row.

        It is the share of the 10 nearest rows of the sample that are among its ``max(refine_sizes) / SAMPLE_STEP`` best
        rows by code. The index is emptied afterwards.
        """
        segment = self.segment
        rows = np.arange(0, len(segment), SAMPLE_STEP)
        if len(rows) < RECALL_K:
            return 1.0
        nearest, scores = np.empty((0, len(self.queries)), np.int64), np.empty((0, len(self.queries)), np.float32)
        for first in range(0, len(rows), segment.shard_rows):
            block = rows[first : first + segment.shard_rows]
            vectors = segment.vectors(block)
            ivf.add(vectors)
            scores = np.concatenate([scores, vectors @ self.queries.T])
            nearest = np.concatenate([nearest, np.repeat(block[:, None], nearest.shape[1], axis=1)])
            best = np.argpartition(-scores, RECALL_K - 1, axis=0)[:RECALL_K]
            nearest, scores = np.take_along_axis(nearest, best, 0), np.take_along_axis(scores, best, 0)
        count = max(RECALL_K, self.refine_sizes[-1] // SAMPLE_STEP)
        found = search_codes(ivf, self.queries, ivf.nlist, count) * SAMPLE_STEP
        ivf.reset()
        return float(_recalls(nearest.T, found).mean())

    def tune(self, ivf: Any, target: float) -> SearchSetting:
        """Return the fastest setting whose recall reaches the target with 95% confidence, else that of best recall."""
        reached: list[SearchSetting] = []
        best = SearchSetting(1, 0, -1.0, 0.0)
        count = 1
        while True:
            nprobe = min(count, ivf.nlist)
            most = min(self.refine_sizes[-1], len(self.segment))
            rows = search_codes(ivf, self.queries, nprobe, most)
            for refine in sorted({min(r, most) for r in self.refine_sizes}):
                recalls = _recalls(self.nearest, rows[:, :refine])
                setting = SearchSetting(nprobe, refine, round(float(recalls.mean()), 4), 0.0)
                if setting.recall > best.recall:
                    best = setting
                if recalls.mean() - ONE_SIDED_95 * recalls.std() / np.sqrt(len(recalls)) >= target:
                    reached.append(self._with_time(ivf, setting))
                    break
            enough = len(reached) >= 3 or (len(reached) > 1 and reached[-1].ms > 1.2 * reached[-2].ms)
            if nprobe == ivf.nlist or enough:
                break
            count = int(np.ceil(NPROBE_STEP * count))
        return min(reached, key=lambda s: s.ms) if reached else self._with_time(ivf, best)

    def _with_time(self, ivf: Any, setting: SearchSetting) -> SearchSetting:
        """Return the setting with the median time of 40 searches."""
        searcher, seconds = AnnSearcher(self.segment, ivf, setting), []
        for query in self.queries[:40]:
            start = time.perf_counter()
            searcher.search(query[None], RECALL_K)
            seconds.append(time.perf_counter() - start)
        return replace(setting, ms=round(1000 * float(np.median(seconds)), 3))


def _recalls(nearest: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each query the share of its nearest rows that were found. Shape: (Q, k), (Q, n) -> (Q,)."""
    return np.array([np.isin(own, rows).mean() for own, rows in zip(nearest, found, strict=True)])


def _read_ivf(path: Path, segment: Segment, size: Any) -> Any | None:
    """Read a faiss index with memory-mapped codes; None if the file is missing, damaged or of another table.

    The size is compared first, because a read beyond the end of a mapped file kills the process.
    """
    import faiss

    on_disk: Any = getattr(faiss, "OnDiskInvertedLists", None)  # not on Windows
    try:
        if path.stat().st_size != size:
            return None
        ivf: Any = faiss.read_index(str(path), faiss.IO_FLAG_MMAP if on_disk else 0)
    except (OSError, RuntimeError):
        return None
    if not isinstance(ivf, faiss.IndexIVF) or ivf.ntotal != len(segment) or ivf.d != segment.dim:
        return None
    stored: Any = ivf.invlists
    lists: Any = faiss.downcast_InvertedLists(stored)
    if on_disk and isinstance(lists, on_disk):
        lists.prefetch_nthread = 0  # each search would start prefetch threads, which take longer than the search
    return ivf
