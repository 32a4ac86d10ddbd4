"""The Python API: a trained run as an object that answers queries, with the words of ``m3gal predict``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from m3gal_cli.data.queries import Query
from m3gal_cli.errors import InputError
from m3gal_cli.geo.filters import Box, check_box
from m3gal_cli.matching import matcher as match
from m3gal_cli.matching.matcher import Answer
from m3gal_cli.matching.session import Log, no_log, open_session


class Matcher:
    """Answers queries with the places that they mean.

    >>> from m3gal_cli import Matcher
    >>> matcher = Matcher.load("runs/only")
    >>> [answer] = matcher.match("north street cafe", k=3, lng=24.9, lat=60.1, within_km=50)
    >>> answer["query"], [match["rank"] for match in answer["matches"]]
    ('north street cafe', [1, 2, 3])
    >>> sorted(answer["matches"][0])
    ['address', 'distance_m', 'lat', 'lng', 'poi_id', 'rank', 'score']
    """

    def __init__(self, matcher: match.Matcher) -> None:
        self._matcher = matcher

    @classmethod
    def load(
        cls,
        run: str | PathLike[str] | None = None,
        pois: str | PathLike[str] | None = None,
        *,
        log: Log = no_log,
        **settings: Any,
    ) -> Matcher:
        """Open a run and the index of its POI table, which is made if it is missing or of another model or table.

        Args:
            run: run, checkpoint directory or published file; None: the newest run in ``runs``.
            pois: POI table (address, lng, lat; poi_id) instead of the run's own.
            say: is told, in words, what is made and why.
            settings: settings of ``eval`` (``index="ann"``, ``recall=0.99``, ``index_dir=…``, ``encoder_runtime=…``),
                and ``device``.

        Raises:
            InputError: no such run, no POI table, an unknown setting, a full disk.
        """
        given = {name if name == "device" else f"eval.{name}": value for name, value in settings.items()}
        if pois is not None:
            given["data.poi"] = str(pois)
        session = open_session(None if run is None else Path(run), given, log=log)
        index = session.index(_unseen)
        assert index is not None, "of one process"
        return cls(session.matcher(index, _unseen))

    def __len__(self) -> int:
        """Places that it knows."""
        return len(self._matcher.index)

    def match(
        self,
        queries: str | Iterable[str],
        k: int = 5,
        lng: float | None = None,
        lat: float | None = None,
        within_km: float | None = None,
        bbox: Box | None = None,
    ) -> list[Answer]:
        """The best ``k`` places of each query, in the order of the queries; a single text is a list of one.

        Args:
            lng, lat: where the queries were typed, degrees, WGS-84; each match then has its ``distance_m``.
            within_km: leave out what lies farther from there.
            bbox: leave out what lies outside of west, south, east, north, degrees.

        Returns:
            {"id", "query", "matches": [{"rank", "poi_id", "address", "lng", "lat", "score", "distance_m"?}]} a query,
            its number, from 1, being its id.

        Raises:
            InputError: an empty query, k below 1, half a place or none on the Earth, ``within_km`` without a place.
        """
        texts = [queries] if isinstance(queries, str) else list(queries)
        for number, text in enumerate(texts, 1):
            if not isinstance(text, str) or not text.strip():
                raise InputError(f"query {number} is empty or no text: {text!r}", hint="Give texts.")
        if k < 1:
            raise InputError(f"k {k} is no number of matches", hint="Give 1 or more.")
        if (lng is None) != (lat is None) or (within_km is not None and lng is None):
            raise InputError("half a place", hint="Give lng and lat together; within_km needs both.")
        if lng is not None and lat is not None and not (abs(lng) <= 180 and abs(lat) <= 90):
            raise InputError(f"({lng}, {lat}) is not on the Earth", hint="Give lng, lat in degrees, lng first.")
        if within_km is not None and not 0 < within_km < math.inf:
            raise InputError(f"within_km {within_km} is no distance", hint="Give kilometres, more than 0.")
        asked = [Query(number, text, lng, lat) for number, text in enumerate(texts, 1)]
        return self._matcher.answer(asked, k, within_km, None if bbox is None else check_box(bbox)) if asked else []


def _unseen(done: int, total: int) -> None:
    """Progress that nobody looks at."""
