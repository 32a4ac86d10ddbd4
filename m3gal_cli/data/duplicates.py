"""Equal POIs, by one of two definitions.

Records compare gold and candidates by ``place_key``: the trimmed text, and coordinates to a decimetre. Indexes remove
rows that are exactly equal in text and coordinates (``distinct_pois``).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.tables import COORDINATE_DECIMALS, POI_COLUMNS

PlaceKey = tuple[str, float, float]
KEY_DECIMALS = COORDINATE_DECIMALS - 1
T = TypeVar("T")


def place_key(text: str, lng: float, lat: float) -> PlaceKey:
    """Return the key of a POI: its trimmed text, and its coordinates in degrees rounded to 6 decimals."""
    # numpy rounds 24.9423635 up and Python rounds it down, so numbers of numpy become numbers of Python first.
    return text.strip(), round(float(lng), KEY_DECIMALS), round(float(lat), KEY_DECIMALS)


def first_by_key(items: Iterable[T], key: Callable[[T], Hashable]) -> list[T]:
    """Return the first item of each key, in the order of the items."""
    first: dict[Hashable, T] = {}
    for item in items:
        first.setdefault(key(item), item)
    return list(first.values())


def first_occurrences(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the position of each distinct value's first occurrence, ascending, and for each value its rank in these.

    Shape: (n,) -> (m,), (n,).
    """
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return first[order], np.argsort(order)[inverse]


def distinct_pois(pois: pd.DataFrame) -> pd.DataFrame:
    """Return the first of the rows that are equal in address, lng and lat, numbered from 0."""
    return pois.drop_duplicates(POI_COLUMNS).reset_index(drop=True)


def first_equal_rows(text: NDArray[np.int64], lng: NDArray[np.float64], lat: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each row the first row that equals it in text number, lng and lat. Shape: (N,) each -> (N,)."""
    table = pd.DataFrame({"text": text, "lng": lng, "lat": lat, "row": np.arange(len(text))})
    return table.groupby(["text", "lng", "lat"])["row"].transform("min").to_numpy()
