"""The rows of a POI table, ordered so that each distinct text and each distinct place is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.encoders.encoder import TorchEncoder, Vectors

Numbers = NDArray[np.int64]


class DistinctRows:
    """A POI table by place: rows of one place stand together, and texts are numbered as they come in that order.

    So the vectors of places can be made block by block and forgotten, and those of texts are read nearly in the order
    in which they were written.

    Args:
        pois: address, lng, lat (degrees, WGS-84).
        embedder: says which places are one to the model.
    """

    def __init__(self, pois: pd.DataFrame, encoder: TorchEncoder) -> None:
        self.lng, self.lat = (pois[name].to_numpy(np.float64) for name in ("lng", "lat"))
        seen = encoder.normalised(self.lng, self.lat)
        self.order: Numbers = np.lexsort((seen[:, 1], seen[:, 0]))
        ordered = seen[self.order]
        new = np.ones(len(ordered), bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        self.starts: Numbers = np.append(np.flatnonzero(new), len(ordered))
        self.place = np.empty(len(ordered), np.int64)
        self.place[self.order] = np.cumsum(new) - 1
        codes, texts = pd.factorize(pois["address"])  # a column that Arrow holds stays one
        first = np.empty(len(texts), np.int64)
        first[codes[self.order[::-1]]] = np.arange(len(codes) - 1, -1, -1)  # the last to be written is the first row
        by_first = np.argsort(first)
        number = np.empty(len(texts), np.int64)
        number[by_first] = np.arange(len(texts))
        self.text: Numbers = number[codes]
        self.texts: Sequence[str] = cast(Sequence[str], texts.take(by_first))

    def __len__(self) -> int:
        return len(self.order)

    def firsts(self) -> Numbers:
        """Of each row the first that equals it in text and coordinates: an index has one place for all of them. (N,)"""
        table = pd.DataFrame({"text": self.text, "lng": self.lng, "lat": self.lat, "row": np.arange(len(self))})
        return table.groupby(["text", "lng", "lat"])["row"].transform("min").to_numpy()

    @property
    def places(self) -> int:
        """Distinct places."""
        return len(self.starts) - 1

    def vectors_of_places(self, numbers: Numbers, encoder: TorchEncoder) -> Vectors:
        """Vectors of these places. Shape: (n,) -> (n, D)."""
        rows = self.order[self.starts[numbers]]
        return encoder.locations(self.lng[rows], self.lat[rows])
