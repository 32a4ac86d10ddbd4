"""The places of a city with their views and facts, joined from its tables."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.errors import InputError
from m3gal_cli.geo.distances import local_metres

POI_ROW = "poi"  # kind of the text of a POI row
NO_KIND = "place"  # kind of places without a category
NO_VIEW_KIND = "view"  # kind of texts from a view table without the columns kind1 and kind2
ALL_KINDS = "all"
CANDIDATES = 64  # number of random places of a kind from which the one farthest from the sample is taken
FACT_COLUMNS = {"street": "street", "number": "housenumber", "crossing": "crossing_a", "area": "area"}
FACT_COLUMNS |= {"landmark": "landmark", "neighbour": "neighbour", "brand": "brand", "alt names": "alt_names"}
FACT_COLUMNS |= {"district": "district", "city": "city", "boundaries": "admin"}
_EMPTY = ("", "{}", "[]")
_COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


@dataclass(frozen=True)
class PlaceDetails:
    """One place with its facts and views.

    Attributes:
        poi_id: Its id; "lng,lat" if the tables have no ids.
        name: Its name; "" if unknown.
        category: "key=value" of OpenStreetMap, or the category of the table; "" if unknown.
        kind: The key of the category.
        lng, lat: Degrees, WGS-84.
        facts: Facts by name, as text.
        views: (kind of view, text), distinct; the POI row comes first.
    """

    poi_id: str
    name: str
    category: str
    kind: str
    lng: float
    lat: float
    facts: dict[str, str] = field(default_factory=dict)
    views: list[tuple[str, str]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return JSON-serialisable values, each view as {"kind", "text"}."""
        return asdict(self) | {"views": [{"kind": kind, "text": text} for kind, text in self.views]}


@dataclass(frozen=True)
class FactCoverage:
    """Share (0 to 1) of the places of one kind that have each fact."""

    kind: str
    places: int
    facts: dict[str, float]


@dataclass(frozen=True)
class City:
    """Places of a city and their views.

    Attributes:
        places: One row per place: poi_id (str), name, category, kind, lng, lat and the available fact columns.
        views: poi_id, kind and text, without duplicates; POI rows first.
        has_views: Whether there are texts other than those of POI rows.
    """

    places: pd.DataFrame
    views: pd.DataFrame
    has_views: bool

    def details(self, rows: Sequence[int]) -> list[PlaceDetails]:
        """Return the places with these row numbers, in this order."""
        places = self.places.iloc[list(rows)]
        views: dict[str, list[tuple[str, str]]] = defaultdict(list)
        selected = self.views[self.views["poi_id"].isin(places["poi_id"])]
        for poi_id, kind, text in zip(selected["poi_id"], selected["kind"], selected["text"], strict=True):
            views[poi_id].append((kind, text))
        columns = ("poi_id", "name", "category", "kind", "lng", "lat")
        return [
            PlaceDetails(**{c: row[c] for c in columns}, facts=facts_of(row), views=views[row["poi_id"]])
            for row in places.to_dict("records")
        ]

    def place(self, poi_id: str) -> PlaceDetails:
        """Return one place by its id. Raises InputError if there is none."""
        rows = np.flatnonzero(self.places["poi_id"] == poi_id)
        if not len(rows):
            hint = f"Ids of this city look like {', '.join(self.places['poi_id'].head(3))}."
            raise InputError(f"no place has the id {poi_id!r}", where="--place", hint=hint)
        return self.details([int(rows[0])])[0]

    def sample(self, count: int, seed: int) -> list[int]:
        """Return the row numbers of up to ``count`` places, spread over kinds and over space.

        Each kind gets a number in proportion to the square root of its size. Each next place is, among ``CANDIDATES``
        random places of its kind, the one farthest from the places that are already in the sample.
        """
        count = min(max(count, 0), len(self.places))
        generator = np.random.default_rng(seed)
        points = local_metres(self.places["lng"], self.places["lat"], *self.places[["lng", "lat"]].median())
        kinds = self.places["kind"].to_numpy()
        sizes = self.places["kind"].value_counts().sort_index()
        order = np.repeat(sizes.index.to_numpy(), _quotas(sizes.to_numpy(), count))
        nearest_m = np.full(len(points), np.inf)
        available = np.ones(len(points), bool)
        sample: list[int] = []
        for kind in generator.permutation(order):
            rows = np.flatnonzero(available & (kinds == kind))
            candidates = rows[generator.permutation(len(rows))[:CANDIDATES]]
            row = int(candidates[np.argmax(nearest_m[candidates])])
            available[row] = False
            nearest_m = np.minimum(nearest_m, np.hypot(*(points - points[row]).T))
            sample.append(row)
        return sorted(sample, key=lambda row: (-sizes[kinds[row]], kinds[row], row))

    def fact_coverage(self) -> list[FactCoverage]:
        """Return the coverage of facts for each kind of place, largest first, then for all; [] without fact columns."""
        names = [name for name, column in FACT_COLUMNS.items() if column in self.places.columns]
        if not names:
            return []
        given = pd.DataFrame({name: self.places[FACT_COLUMNS[name]].map(is_given) for name in names})
        sizes = self.places["kind"].value_counts()
        kinds = sorted(sizes.index, key=lambda kind: (-sizes[kind], kind))
        parts = [(str(kind), given[self.places["kind"] == kind]) for kind in kinds] + [(ALL_KINDS, given)]
        return [FactCoverage(kind, len(part), part.mean().to_dict()) for kind, part in parts]


def _quotas(sizes: np.ndarray, count: int) -> np.ndarray:
    """Divide ``count`` among kinds by the square root of their sizes: largest remainders, at most the size of each."""
    quotas = np.zeros(len(sizes), int)
    while (left := count - quotas.sum()) > 0:
        weights = np.where(quotas < sizes, np.sqrt(sizes), 0.0)
        exact = left * weights / weights.sum()
        added = np.floor(exact).astype(int)
        added[np.argsort(added - exact, kind="stable")[: left - added.sum()]] += 1
        quotas = np.minimum(quotas + added, sizes)
    return quotas


def is_given(value: Any) -> bool:
    """Return whether a cell has a value: not null, NaN, blank text or an empty list or object."""
    if value is None or value is pd.NA:
        return False
    if isinstance(value, float):
        return not np.isnan(value)
    if isinstance(value, str):
        return value.strip() not in _EMPTY
    return len(value) > 0 if hasattr(value, "__len__") else True


def facts_of(row: dict[Any, Any]) -> dict[str, str]:
    """Return the facts of a place as text, e.g. {"landmark": "Tower (40 m NE of it)"}."""
    facts = {"words": _text(row["words"])} if is_given(row.get("words")) else {}
    for name, column in FACT_COLUMNS.items():
        value = row.get(column)
        if not is_given(value):
            continue
        text = _text(value)
        if name == "street" and _by_address(row):
            text += " (by address)"
        elif name == "crossing":
            other = row.get("crossing_b")
            text += f" / {other}" if is_given(other) else ""
        facts[name] = text + _direction(row, name)
    return facts


def _direction(row: dict[Any, Any], name: str) -> str:
    """Return " (40 m NE of it)", " (in its NE)" for an area, or "" if distance and direction are unknown."""
    metres, bearing = _number(row.get(f"{name}_metres")), _number(row.get(f"{name}_bearing"))
    point = "" if math.isnan(bearing) else _COMPASS[round(bearing / 45.0) % 8]
    if name == "area":
        return f" (in its {point})" if point else ""
    if math.isnan(metres) or (name == "street" and _by_address(row)):
        return ""
    return f" ({metres:.0f} m {point} of it)" if point else f" ({metres:.0f} m away)"


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _by_address(row: dict[Any, Any]) -> bool:
    flag = row.get("street_by_address")
    return is_given(flag) and bool(flag)


def _text(value: Any) -> str:
    """Return a fact as text; lists and JSON objects are written as "a, b"."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return value if isinstance(value, str) else ", ".join(map(str, value))
