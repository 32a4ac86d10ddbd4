"""Negatives mined anew for candidate records that come with their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from m3gal_cli.data.hard_negatives import Mined, Miner, Pois, parts_of
from m3gal_cli.data.records import Passage, PoiKey, Record
from m3gal_cli.geo.coordinates import local_metres
from m3gal_cli.text.normalise import reads


class Reminer:
    """A POI table to mine from: rows of text and place, each once.

    Names, brands, compounds and crossings are read off the texts (see ``candidates.parts_of``).

    Args:
        passages: The rows; equal ones (in text and place) count once.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        rows: dict[PoiKey, Passage] = {}
        for passage in passages:  # the first of equal ones stays: records' passages have ids, rows of a table none
            rows.setdefault(passage.key, passage)
        self._passages = list(rows.values())
        self._row: dict[PoiKey, int] = {p.key: i for i, p in enumerate(self._passages)}
        lng, lat = (np.array([getattr(p, name) for p in self._passages]) for name in ("lng", "lat"))
        where = local_metres(lng, lat, float(np.median(lng)), float(np.median(lat)))
        texts = [p.text for p in self._passages]
        parts = [parts_of(text) for text in texts]
        names = [reads(name) for name, *_ in parts]
        brands = [reads(brand) or name for (_, brand, *_), name in zip(parts, names, strict=True)]
        compounds, crossings = ([part[i] for part in parts] for i in (2, 3))
        self._miner = Miner(Pois(texts, [reads(t) for t in texts], names, brands, where, compounds, crossings))

    def __len__(self) -> int:
        return len(self._passages)

    def mine(self, records: Sequence[Record], n: int, seed: int) -> tuple[list[Record], list[Mined]]:
        """The records with ``n`` mined negatives instead of their own, and what brought those in.

        Nothing that reads like a positive of the record or may be its place (see ``Miner.mine``) is taken.
        """
        gold = [[self._row[p.key] for p in r.positives] for r in records]
        mined = self._miner.mine([r.query for r in records], gold, n, seed)
        rows = [[self._passages[row] for row in found.rows] for found in mined]
        return [replace(r, negatives=negatives) for r, negatives in zip(records, rows, strict=True)], mined


def passages_of(records: Sequence[Record], pois: pd.DataFrame | None) -> list[Passage]:
    """All passages of records, and the rows of a POI table behind them."""
    found = [p for record in records for p in record.passages]
    if pois is not None:
        rows = zip(pois["address"], pois["lng"].tolist(), pois["lat"].tolist(), strict=True)
        found += [Passage(text, lng, lat) for text, lng, lat in rows]
    return found
