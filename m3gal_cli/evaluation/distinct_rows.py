"""The distinct texts and locations of a POI table, so that each is encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.encoders.protocol import Encoder, Vectors

Numbers = NDArray[np.int64]


class DistinctRows:
    """A POI table with numbered locations and texts.

    Rows are read in the order of locations, so location vectors can be computed block by block and dropped. Texts are
    numbered by their first row in this order, so text vectors are read nearly in the order of the file.

    Args:
        pois: Columns address, lng, lat (degrees, WGS-84).
        encoder: Locations with equal normalised coordinates are one location.

    Attributes:
        order: (N,), rows by location.
        starts: (L + 1,), where the rows of each location start in ``order``.
        location: (N,), location number of each row.
        text: (N,), text number of each row.
        texts: The distinct texts.
    """

    def __init__(self, pois: pd.DataFrame, encoder: Encoder) -> None:
        self.lng, self.lat = (pois[name].to_numpy(np.float64) for name in ("lng", "lat"))
        normalised = encoder.normalize_locations(self.lng, self.lat)
        self.order: Numbers = np.lexsort((normalised[:, 1], normalised[:, 0]))
        ordered = normalised[self.order]
        new = np.ones(len(ordered), bool)
        new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        self.starts: Numbers = np.append(np.flatnonzero(new), len(ordered))
        self.location = np.empty(len(ordered), np.int64)
        self.location[self.order] = np.cumsum(new) - 1
        codes, texts = pd.factorize(pois["address"])  # a column held by Arrow stays in Arrow
        first = np.empty(len(texts), np.int64)
        first[codes[self.order[::-1]]] = np.arange(len(codes) - 1, -1, -1)  # the first row is written last
        by_first = np.argsort(first)
        number = np.empty(len(texts), np.int64)
        number[by_first] = np.arange(len(texts))
        self.text: Numbers = number[codes]
        self.texts: Sequence[str] = cast(Sequence[str], texts.take(by_first))

    def __len__(self) -> int:
        return len(self.order)

    @property
    def n_locations(self) -> int:
        """Number of distinct locations."""
        return len(self.starts) - 1

    def location_vectors(self, numbers: Numbers, encoder: Encoder) -> Vectors:
        """Return the vectors of locations. Shape: (n,) -> (n, D)."""
        rows = self.order[self.starts[numbers]]
        return encoder.encode_locations(self.lng[rows], self.lat[rows])
