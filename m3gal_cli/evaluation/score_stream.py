"""Scores of every query with every row of a table, tile by tile, in memory that does not grow with the table.

Blocks of rows follow one another. Within a block, the tiles of different query batches are computed in parallel: on a
CPU with one thread each, so that a tile and all its comparisons stay in the caches of one core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from m3gal_cli.encoders.embedding_cache import TextVectors
from m3gal_cli.encoders.protocol import Encoder, Progress, Vectors
from m3gal_cli.evaluation.distinct_rows import DistinctRows
from m3gal_cli.evaluation.score_tiles import Block, BlockVectors, QueryBatch, Tile, exact_products, score_tiles

Numbers = NDArray[np.int64]
UseTile = Callable[[Tile], None]
UseBatch = Callable[[QueryBatch], object]


@dataclass(frozen=True)
class BlockSizes:
    """Numbers of table rows, queries and locations that are processed at once. None: by device."""

    rows: int | None = None
    queries: int | None = None
    locations: int = 8192

    def of(self, device: str) -> tuple[int, int]:
        """Return the numbers of rows and queries for a type of device."""
        rows, queries = {"cpu": (4096, 512), "cuda": (16384, 4096)}[device]
        return self.rows or rows, self.queries or queries


class LocationVectors(NamedTuple):
    """Vectors of some locations. Shape: numbers: (n,), ascending. vectors: (n, D)."""

    numbers: Numbers
    vectors: Vectors


class ScoreStream:
    """A table and the vectors of its texts.

    Args:
        rows: The table.
        texts: Vectors by the text numbers of ``rows``.
        encoder: Encodes locations. Products are computed on its device.
        sizes: Sizes of the pieces of work. They do not change any result.
    """

    def __init__(
        self, rows: DistinctRows, texts: TextVectors, encoder: Encoder, sizes: BlockSizes = BlockSizes()
    ) -> None:
        self.rows, self.texts, self.encoder, self.sizes = rows, texts, encoder, sizes
        device = torch.device(encoder.device)
        # Apple's GPU has no float64, which exact products need.
        self.device = device if device.type == "cuda" else torch.device("cpu")

    def exact_scores(
        self, queries: Vectors, query: Numbers, row: Numbers
    ) -> tuple[LocationVectors, dict[str, NDArray[np.float64]]]:
        """Return the exact scores of pairs of query and row, by kind; -inf if a vector is not finite.

        Returns:
            The vectors of the pairs' locations, which ``stream`` must use too, and the scores. Another batch may give
            a location a slightly different vector.

        Shape:
            queries: (Q, D). query, row: (P,) -> (P,) by kind.
        """
        numbers, which = np.unique(self.rows.location[row], return_inverse=True)
        locations = LocationVectors(numbers, self.rows.location_vectors(numbers, self.encoder))
        out = {kind: np.empty(len(query)) for kind in ("text", "location")}
        for start in range(0, len(query), self.sizes.locations):
            part = slice(start, start + self.sizes.locations)
            query_vectors = _tensor(queries[query[part]], self.device)
            codes, inverse = np.unique(self.rows.text[row[part]], return_inverse=True)
            text, location = self.texts.vectors(codes)[inverse], locations.vectors[which[part]]
            for kind, vectors in (("text", text), ("location", location)):
                score = exact_products(query_vectors, _tensor(vectors, self.device)).cpu().numpy()
                out[kind][part] = np.where(np.isfinite(score), score, -np.inf)
        return locations, out | {"fused": out["text"] + out["location"]}

    def stream(self, queries: Vectors, known: LocationVectors, use: UseTile, progress: Progress | None = None) -> None:
        """Call ``use`` with tiles that cover all pairs of query and row once for each kind of score.

        Queries without a finite vector are left out. Calls for different query batches run in parallel, but never two
        calls for the same batch.

        Args:
            queries: (Q, D).
            known: Location vectors of ``exact_scores``.
            use: Called with each tile.
            progress: Called with the number of rows done and the total.
        """
        finite = np.flatnonzero(np.isfinite(queries).all(axis=1))
        if not len(finite):
            return
        _, most = self.sizes.of(self.device.type)
        with _workers(self.device) as (count, run_all):
            step = max(1, min(most, -(-len(finite) // count)))
            parts = [finite[i : i + step] for i in range(0, len(finite), step)]
            batches = [QueryBatch.of(part, queries[part], self.device) for part in parts]
            done = 0
            for block in self._blocks(known):
                run_all(partial(_use_tiles, use, block), batches)
                done += len(block.rows)
                if progress is not None:
                    progress(done, len(self.rows))

    def _blocks(self, known: LocationVectors) -> Iterator[Block]:
        """Yield the rows of the table in blocks, ordered by location."""
        rows, (step, _) = self.rows, self.sizes.of(self.device.type)
        for first in range(0, rows.n_locations, self.sizes.locations):
            numbers = np.arange(first, min(first + self.sizes.locations, rows.n_locations))
            vectors = rows.location_vectors(numbers, self.encoder)
            same = slice(*np.searchsorted(known.numbers, [first, first + len(vectors)]))
            vectors[known.numbers[same] - first] = known.vectors[same]
            end = int(rows.starts[numbers[-1] + 1])
            for start in range(int(rows.starts[first]), end, step):
                part = rows.order[start : min(start + step, end)]
                location = rows.location[part]
                low, high = int(location[0]), int(location[-1]) + 1
                codes, text = np.unique(rows.text[part], return_inverse=True)
                texts = BlockVectors(self.texts.vectors(codes), text, self.device)
                yield Block(part, texts, BlockVectors(vectors[low - first : high - first], location - low, self.device))


def _use_tiles(use: UseTile, block: Block, queries: QueryBatch) -> None:
    """Call ``use`` with the tiles of a query batch and a block."""
    for tile in score_tiles(queries, block):
        use(tile)


def _tensor(vectors: Vectors, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(vectors)).to(device)


@contextmanager
def _workers(device: torch.device) -> Iterator[tuple[int, Callable[[UseBatch, list[QueryBatch]], object]]]:
    """Yield the number of workers, and a function that applies a function to query batches in parallel.

    On a CPU each worker is one thread. Torch has all cores again between two calls.
    """
    cores, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # the margins assume float32 products
    try:
        if device.type != "cpu" or cores == 1:
            yield 1, lambda use, batches: [use(batch) for batch in batches]
            return
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def in_parallel(use: UseBatch, batches: list[QueryBatch]) -> None:
                torch.set_num_threads(1)
                try:
                    list(pool.map(use, batches))
                finally:
                    torch.set_num_threads(cores)

            yield cores, in_parallel
    finally:
        torch.set_num_threads(cores)
        torch.set_float32_matmul_precision(precision)
