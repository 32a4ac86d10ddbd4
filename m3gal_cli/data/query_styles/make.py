"""Make queries of every style from a POI table."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from numpy.typing import ArrayLike

from m3gal_cli.data.query_styles.source import Source
from m3gal_cli.data.query_styles.styles import OTHER_LANGUAGE, STYLES
from m3gal_cli.data.query_styles.table import QueryTable, plain
from m3gal_cli.geo.distances import METRES_PER_DEGREE

MAX_GOLD = 30
MAX_MISSES = 400  # attempts without a query, one after the other, that end the making
LOCATION_SIGMAS_M = (200.0, 500.0, 1000.0, 2000.0)
FAR_SIGMA_M = 15_000.0
NEAREST_M = 50.0
NO_LOCATION_SHARE, NEAR_SHARE = 0.45, 0.4  # the rest is far


@dataclass(frozen=True)
class StyledQuery:
    """A made query.

    Attributes:
        style: One of ``STYLES``.
        text: The query.
        gold: The rows that it means: 1 to ``MAX_GOLD``. With a location near the source, only the nearest one of the
            rows that fit, and those at most 50 m farther away: a chain name means the branch here.
        lng: Longitude of the query location in degrees; None without a location.
        lat: Its latitude.
    """

    style: str
    text: str
    gold: frozenset[int]
    lng: float | None = None
    lat: float | None = None


def styled_queries(
    addresses: Sequence[str],
    lng: ArrayLike,
    lat: ArrayLike,
    count: int,
    seed: int,
    other_names: Mapping[int, Sequence[str]] | None = None,
) -> list[StyledQuery]:
    """Make queries of random rows and styles; a style that a row lacks the parts for is skipped.

    Args:
        addresses: Address texts of the POIs.
        lng: Their longitudes in degrees; NaN: unknown.
        lat: Their latitudes.
        count: Number of queries; fewer are made if too few rows serve.
        seed: Random seed.
        other_names: Further names of rows, such as those in other languages.
    """
    rng = random.Random(seed)
    table = QueryTable(addresses, lng, lat, other_names or {})
    rows, without_number = table.rows, table.rows_without_number or table.rows
    with_other_names = [row for row in rows if table.other_names.get(row)]
    styles, weights = list(STYLES), [weight for weight, _ in STYLES.values()]
    out: list[StyledQuery] = []
    misses = 0
    while rows and len(out) < count and misses < MAX_MISSES:
        style = rng.choices(styles, weights)[0]
        drawn = with_other_names if style == OTHER_LANGUAGE and with_other_names else rng.choice((rows, without_number))
        row = rng.choice(drawn)
        text, gold = STYLES[style][1](Source(table, row, rng)) or ("", set())
        gold = gold | table.exactly(text)
        misses += 1
        if row in gold and len(gold) <= MAX_GOLD and len(plain(text)) > 1:
            location = _location(table, row, rng)
            if location is not None and location.near:
                gold = table.nearest(gold, location.lng, location.lat, NEAREST_M)
            out.append(StyledQuery(style, " ".join(text.split()), frozenset(gold), *(location or (None, None))[:2]))
            misses = 0
    return out


class _Location(NamedTuple):
    lng: float
    lat: float
    near: bool  # whether it is near the source


def _location(table: QueryTable, row: int, rng: random.Random) -> _Location | None:
    """Return a random query location around a POI in degrees, or none."""
    share = rng.random()
    lng, lat = float(table.lng[row]), float(table.lat[row])
    if share < NO_LOCATION_SHARE or not math.isfinite(lng + lat):
        return None
    near = share < NO_LOCATION_SHARE + NEAR_SHARE
    sigma = rng.choice(LOCATION_SIGMAS_M) if near else FAR_SIGMA_M
    east, north = (rng.gauss(0.0, sigma) / METRES_PER_DEGREE for _ in range(2))
    lng += east / max(math.cos(math.radians(lat)), 0.01)
    return _Location((lng + 180.0) % 360.0 - 180.0, min(max(lat + north, -90.0), 90.0), near)
