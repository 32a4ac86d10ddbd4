"""Negatives mined anew for candidate records that come with their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from m3gal_cli.data.candidates import Mined, Miner, Pois, parts_of
from m3gal_cli.data.coordinates import local_metres
from m3gal_cli.data.osm.places import reads
from m3gal_cli.data.records import Passage, PoiKey, Record


class Reminer:
    """A POI table to mine from: rows of text and place, each once.

    Names, brands and compounds are read off the texts (see ``candidates.parts_of``).

    Args:
        passages: The rows; equal ones (in text and place) count once.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._passages = list({p.key: p for p in passages}.values())
        self._row: dict[PoiKey, int] = {p.key: i for i, p in enumerate(self._passages)}
        lng, lat = (np.array([getattr(p, name) for p in self._passages]) for name in ("lng", "lat"))
        where = local_metres(lng, lat, float(np.median(lng)), float(np.median(lat)))
        texts = [p.text for p in self._passages]
        parts = [parts_of(text) for text in texts]
        names = [reads(name) for name, _, _ in parts]
        brands = [reads(brand) or name for (_, brand, _), name in zip(parts, names, strict=True)]
        compounds = [compound for _, _, compound in parts]
        self._miner = Miner(Pois(texts, [reads(t) for t in texts], names, brands, where, compounds))

    def __len__(self) -> int:
        return len(self._passages)

    def mine(self, records: Sequence[Record], n: int, seed: int) -> tuple[list[Record], list[Mined]]:
        """The records with ``n`` mined negatives instead of their own, and what brought those in.

        Nothing that equals a positive of the record in text, or is one of its places, is taken.
        """
        gold = [self._row[r.positives[0].key] for r in records]
        most = max((len(r.positives) for r in records), default=1)
        mined = self._miner.mine([r.query for r in records], gold, n + most - 1, seed)
        out = []
        for record, found in zip(records, mined, strict=True):
            known = {reads(p.text) for p in record.positives}
            kept = [i for i, row in enumerate(found.rows) if reads(self._passages[row].text) not in known][:n]
            found.rows, found.sources = [found.rows[i] for i in kept], [found.sources[i] for i in kept]
            out.append(replace(record, negatives=[self._passages[row] for row in found.rows]))
        return out, mined


def passages_of(records: Sequence[Record], pois: pd.DataFrame | None) -> list[Passage]:
    """All passages of records, and the rows of a POI table behind them."""
    found = [p for record in records for p in record.passages]
    if pois is not None:
        rows = zip(pois["address"], pois["lng"].tolist(), pois["lat"].tolist(), strict=True)
        found += [Passage(text, lng, lat) for text, lng, lat in rows]
    return found
