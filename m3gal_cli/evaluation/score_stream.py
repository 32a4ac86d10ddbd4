"""Every query against every row of a table, in memory that does not grow with either.

Blocks of rows come one after the other; within a block, tiles of other queries are computed at the same time: on a CPU
one thread each, products and all that is done with them, so that they stay in the caches of a core and nobody waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from m3gal_cli.encoders.embedding_cache import TextVectors
from m3gal_cli.encoders.encoder import Progress, TorchEncoder, Vectors
from m3gal_cli.evaluation.distinct_rows import DistinctRows
from m3gal_cli.evaluation.score_tiles import Block, Queries, Side, Tile, exact_products, tiles

PLACES_AT_ONCE = 8192
ROWS_AT_ONCE = {"cpu": 4096, "cuda": 16384}
QUERIES_AT_ONCE = {"cpu": 512, "cuda": 4096}
Use = Callable[[Tile], None]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """Vectors of some places that are known beforehand. Args: numbers: (n,) rising; vectors: (n, D)."""

    numbers: Numbers
    vectors: Vectors

    def put(self, first: int, vectors: Vectors) -> None:
        """Let vectors of the places from ``first`` on be the known ones, where there are such."""
        own = slice(*np.searchsorted(self.numbers, [first, first + len(vectors)]))
        vectors[self.numbers[own] - first] = self.vectors[own]


def scan_device(device: torch.device | str) -> torch.device:
    """Where products are computed: Apple's GPU has no float64, which the exact ones are."""
    own = torch.device(device)
    return own if own.type == "cuda" else torch.device("cpu")


class ScoreStream:
    """A table and the vectors of its texts.

    Args:
        rows: the table.
        texts: vectors by the numbers that ``rows`` gives texts.
        embedder: makes those of places, and says on which device products are computed.
    """

    def __init__(self, rows: DistinctRows, texts: TextVectors, encoder: TorchEncoder) -> None:
        self.rows, self.texts, self.encoder = rows, texts, encoder
        self.device = scan_device(encoder.device)

    def exact(self, queries: Vectors, query: Numbers, row: Numbers) -> tuple[Places, dict[str, NDArray[np.float64]]]:
        """Exact scores of some pairs of query and table row, by kind; -inf where a vector is not finite.

        Returns:
            The vectors of the pairs' places, for ``run``: each place has one vector, whenever it is asked for.
        """
        numbers, which = np.unique(self.rows.place[row], return_inverse=True)
        places = Places(numbers, self.rows.vectors_of_places(numbers, self.encoder))
        out = {kind: np.empty(len(query)) for kind in ("text", "location")}
        for start in range(0, len(query), PLACES_AT_ONCE):
            own = slice(start, start + PLACES_AT_ONCE)
            asked = _tensor(queries[query[own]], self.device)
            codes, inverse = np.unique(self.rows.text[row[own]], return_inverse=True)
            text, place = self.texts.vectors(codes)[inverse], places.vectors[which[own]]
            for kind, vectors in (("text", text), ("location", place)):
                score = exact_products(asked, _tensor(vectors, self.device)).cpu().numpy()
                out[kind][own] = np.where(np.isfinite(score), score, -np.inf)
        return places, out | {"fused": out["text"] + out["location"]}

    def run(self, queries: Vectors, known: Places, use: Use, progress: Progress | None = None) -> None:
        """Give ``use`` the tiles of every query whose vector is finite with every row, each kind of score once.

        ``use`` is called at the same time for tiles of other queries, never for two of the same ones.

        Args:
            progress: rows done, and rows of the table.
        """
        finite = np.flatnonzero(np.isfinite(queries).all(axis=1))
        if not len(finite):
            return
        with _workers(self.device) as (count, each):
            step = QUERIES_AT_ONCE[self.device.type]
            step = max(1, min(step, -(-len(finite) // count)))
            parts = [finite[i : i + step] for i in range(0, len(finite), step)]
            asked = [Queries.of(part, queries[part], self.device) for part in parts]
            done = 0
            for block in self._blocks(known):
                each(partial(_use, use, block), asked)
                done += len(block.rows)
                if progress is not None:
                    progress(done, len(self.rows))

    def _blocks(self, known: Places) -> Iterator[Block]:
        rows, step = self.rows, ROWS_AT_ONCE[self.device.type]
        for first in range(0, rows.places, PLACES_AT_ONCE):
            numbers = np.arange(first, min(first + PLACES_AT_ONCE, rows.places))
            vectors = rows.vectors_of_places(numbers, self.encoder)
            known.put(first, vectors)
            end = int(rows.starts[numbers[-1] + 1])
            for start in range(int(rows.starts[first]), end, step):
                own = rows.order[start : min(start + step, end)]
                place = rows.place[own]
                low, high = int(place[0]), int(place[-1]) + 1
                codes, text = np.unique(rows.text[own], return_inverse=True)
                texts = Side(self.texts.vectors(codes), text, self.device)
                yield Block(own, texts, Side(vectors[low - first : high - first], place - low, self.device))


def _use(use: Use, block: Block, queries: Queries) -> None:
    for tile in tiles(queries, block):
        use(tile)


def _tensor(vectors: Vectors, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(vectors)).to(device)


@contextmanager
def _workers(device: torch.device) -> Iterator[tuple[int, Callable[[Callable[[Queries], None], list[Queries]], None]]]:
    """How many work at once, and a way to have them do something with each of a list.

    On a CPU every worker is one thread of its own; between their turns, torch has all cores.
    """
    cores, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # else products are rounded as the margins do not foresee

    def one_by_one(do: Callable[[Queries], None], items: list[Queries]) -> None:
        for item in items:
            do(item)

    try:
        if device.type != "cpu" or cores == 1:
            yield 1, one_by_one
            return
        with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:

            def together(do: Callable[[Queries], None], items: list[Queries]) -> None:
                torch.set_num_threads(1)
                try:
                    list(pool.map(do, items))
                finally:
                    torch.set_num_threads(cores)

            yield cores, together
    finally:
        torch.set_num_threads(cores)
        torch.set_float32_matmul_precision(precision)
