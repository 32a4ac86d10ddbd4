"""The vectors of new rows of an index, most of which are known from its other rows.

A row with the address and the coordinates of a stored row has the same vector. A row with the address of a stored row
at another place differs in its location vector only: k + g2 = (k + g1) - g1 + g2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from m3gal_cli.encoders.protocol import Encoder, Progress, Vectors
from m3gal_cli.index.index import Index
from m3gal_cli.index.poi_columns import Rows, numbers_of
from m3gal_cli.index.poi_rows import PoiRows, first_with, places_of

LOCATION = ("lng", "lat")


class VectorReuse:
    """Encodes new rows of an index; a text that the index knows is not encoded again.

    Args:
        index: The index, including its deleted rows.
        rows: The new rows.
        load_encoder: Loads the model. It is called only if a text or a location must be encoded.

    Attributes:
        encoded: Number of texts that were encoded.
    """

    def __init__(self, index: Index, rows: PoiRows, load_encoder: Callable[[], Encoder]) -> None:
        self.index, self.rows, self._load_encoder, self.encoded = index, rows, load_encoder, 0
        self._same_place = first_with(index.hashes("place"), rows.hashes["place"])
        self._same_text = first_with(index.hashes("text"), rows.hashes["text"])

    @cached_property
    def encoder(self) -> Encoder:
        """Return the model, loaded on first use."""
        return self._load_encoder()

    def encode(self, rows: Rows, progress: Progress) -> Vectors:
        """Return the vectors of some of the new rows. Shape: (n,) -> (n, D)."""
        places = places_of(self.rows.table, rows)
        addresses, (lng, lat) = [place[0] for place in places], (numbers_of(self.rows.table, c)[rows] for c in LOCATION)
        same_place, same_text = self._same_place[rows], self._same_text[rows]
        self._reject(same_place, places, self.index.places_at)
        self._reject(same_text, addresses, self.index.addresses_at)
        copied, moved = same_place >= 0, (same_place < 0) & (same_text >= 0)
        new = ~copied & ~moved
        out = np.empty((len(rows), self.index.dim), np.float32)
        out[copied] = self.index.vectors(same_place[copied])
        if moved.any():
            stored = same_text[moved]
            former = self.encoder.encode_locations(self.index.lng[stored], self.index.lat[stored])
            out[moved] = self.index.vectors(stored) - former + self.encoder.encode_locations(lng[moved], lat[moved])
        if new.any():
            texts = [text for text, is_new in zip(addresses, new.tolist(), strict=True) if is_new]
            self.encoded += len(set(texts))
            out[new] = self.encoder.encode_poi_texts(texts, progress)
            out[new] += self.encoder.encode_locations(lng[new], lat[new])
        return out

    @staticmethod
    def _reject(found: Rows, wanted: list[Any], stored_values: Callable[[Rows], list[Any]]) -> None:
        """Set found rows to -1 where only the hashes are equal."""
        at = np.flatnonzero(found >= 0)
        stored = stored_values(found[at])
        found[[i for i, value in zip(at.tolist(), stored, strict=True) if value != wanted[i]]] = -1
