"""A POI table as vectors: scores of every POI, and the best few of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.records import PoiKey, poi_key
from m3gal_cli.retrieval.embed import Embedder, Progress, Vectors

SCORES_AT_ONCE = 30_000_000  # query-POI scores held in memory


@dataclass(frozen=True)
class Scores:
    """Scores of every POI for a run of queries. Shape: text, location, fused (q, N)."""

    first: int
    text: NDArray[np.float32]
    location: NDArray[np.float32]

    @property
    def fused(self) -> NDArray[np.float32]:
        return self.text + self.location


class PoiDatabase:
    """POIs encoded once: distinct texts and distinct places apart, so that equal rows score bit-equal.

    Args:
        pois: poi_id, address, lng, lat (degrees, WGS-84).
        embedder: the model.
    """

    def __init__(self, pois: pd.DataFrame, embedder: Embedder, progress: Progress | None = None) -> None:
        self.pois = pois
        text_codes, texts = pd.factorize(pois["address"])
        places, place_codes = np.unique(
            np.stack([pois["lng"].to_numpy(np.float64), pois["lat"].to_numpy(np.float64)], axis=1),
            axis=0,
            return_inverse=True,
        )
        self._text_codes, self._place_codes = text_codes, place_codes.reshape(-1)
        self._texts: Vectors = embedder.poi_texts(list(texts), progress)
        self._places: Vectors = embedder.locations(places[:, 0], places[:, 1])

    def __len__(self) -> int:
        return len(self.pois)

    def keys(self) -> list[PoiKey]:
        """The identity of every row (text and coordinates)."""
        columns = (self.pois["address"], self.pois["lng"], self.pois["lat"])
        return [poi_key(*row) for row in zip(*columns, strict=True)]

    def scores(self, queries: Vectors) -> Iterator[Scores]:
        """Scores of every POI, for as many queries at a time as fit in memory. Shape: queries (Q, D)."""
        step = max(1, SCORES_AT_ONCE // max(len(self), 1))
        for first in range(0, len(queries), step):
            part = queries[first : first + step]
            text = (part @ self._texts.T)[:, self._text_codes]
            yield Scores(first, text, (part @ self._places.T)[:, self._place_codes])

    def search(self, queries: Vectors, top_k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Rows and fused scores of the best ``top_k`` POIs, best first, equal scores in table order.

        Shape:
            queries: (Q, D) -> (Q, k) rows, (Q, k) scores, k = min(top_k, N).
        """
        k = min(top_k, len(self))
        rows = np.empty((len(queries), k), np.int64)
        values = np.empty((len(queries), k), np.float32)
        for scores in self.scores(queries):
            fused = scores.fused
            for i, line in enumerate(fused):
                edge = np.partition(line, len(line) - k)[len(line) - k]
                among = np.flatnonzero(line >= edge)  # all rows that tie with the last place, so that order decides
                best = among[np.argsort(-line[among], kind="stable")][:k]
                rows[scores.first + i], values[scores.first + i] = best, line[best]
        return rows, values
