"""The choice of a searcher, and the search of several segments."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from m3gal_cli.encoders.protocol import Progress, QueryEncoder, Vectors
from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import GeoFilter
from m3gal_cli.index.exact_numpy import NumpySearcher
from m3gal_cli.index.index import Index
from m3gal_cli.index.searcher import Searcher, SearcherKind, SearchResult, empty_result, top_k
from m3gal_cli.index.segment import Log, Segment

if TYPE_CHECKING:
    import torch


class SegmentsSearcher:
    """Searches an index of any number of segments, each by its own searcher."""

    def __init__(self, index: Index, searchers: Sequence[Searcher]) -> None:
        self.index, self.searchers = index, searchers

    def search(self, queries: Vectors, k: int, filters: Sequence[GeoFilter | None] | None = None) -> SearchResult:
        """Search as ``Searcher.search``; rows are those of the index."""
        found = [searcher.search(queries, k, filters) for searcher in self.searchers]
        offsets = self.index.offsets[:-1]
        result = empty_result(len(queries), k)
        for query in range(len(queries) if found else 0):
            kept = [own.rows[query] >= 0 for own in found]
            parts = list(zip(found, kept, offsets, strict=True))
            rows = np.concatenate([own.rows[query, some] + offset for own, some, offset in parts])
            result.put(query, top_k(rows, np.concatenate([own.scores[query, some] for own, some, _ in parts]), k))
        return result


@dataclass(frozen=True)
class SearchOptions:
    """Options of the choice of a searcher."""

    kind: SearcherKind = "auto"  # auto: ann above ``max_exact_pois`` on a CPU, unless ``recall`` is 1; else exact
    recall: float = 0.95  # target recall@10 of an approximate search
    uri: str | None = None  # URI of a Milvus server, or path of a Milvus Lite file
    max_exact_pois: int = 1_000_000  # a CPU scans so many POIs in well under a second
    max_numpy_pois: int = 50_000  # numpy scores so many POIs in a tenth of the time of the import of torch
    max_exact_rows: int = 50_000  # approximate search scans smaller segments, if there are several


def make_searcher(
    options: SearchOptions,
    index: Index,
    encoder: QueryEncoder,
    device: Callable[[], torch.device],
    log: Log,
    progress: Progress,
) -> Searcher:
    """Return the searcher that the options ask for.

    Args:
        options: Kind of the searcher and its settings.
        index: The index to search.
        encoder: Encodes the queries for the tuning of an approximate search.
        device: Returns the device of an exact search; it imports torch.
        log: Called with a message for each artefact that is built.
        progress: Called with the rows done and the rows in all while an artefact is built.

    Raises:
        InputError: A package is not installed, no URI is given, or the Milvus server does not answer.
    """
    kind = options.kind
    if kind == "auto":
        is_exact = options.recall == 1 or len(index) <= options.max_exact_pois or device().type != "cpu"
        kind = "exact" if is_exact else "ann"
    segments = index.segments
    if kind == "milvus":
        searchers = _milvus_searchers(options, segments, progress)
    else:
        use_numpy = len(index) <= options.max_numpy_pois and "torch" not in sys.modules
        searchers = []
        for segment in segments:
            if kind == "ann" and (len(segments) == 1 or segment.live_count > options.max_exact_rows):
                from m3gal_cli.index.ann import open_ann

                searchers.append(open_ann(segment, encoder, options.recall, log, progress))
            elif use_numpy:
                searchers.append(NumpySearcher(segment))
            else:
                from m3gal_cli.index.exact import ExactSearcher

                searchers.append(ExactSearcher(segment, device()))
    return searchers[0] if len(searchers) == 1 else SegmentsSearcher(index, searchers)


def _milvus_searchers(options: SearchOptions, segments: list[Segment], progress: Progress) -> list[Searcher]:
    if options.uri is None:
        hint = "Give --uri: http://HOST:19530 of a server, or a file of Milvus Lite such as pois.db."
        raise InputError("--index milvus needs a URI", hint=hint)
    from m3gal_cli.index.milvus import open_milvus
    from m3gal_cli.index.milvus_store import collection_name

    names = [collection_name(segment) for segment in segments]
    return [open_milvus(segment, options.uri, progress, keep=names) for segment in segments]
