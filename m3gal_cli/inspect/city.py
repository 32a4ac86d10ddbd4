"""The places of a city with their views and facts, put together from the tables that are at hand."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from m3gal_cli.errors import InputError
from m3gal_cli.geo.coordinates import local_metres

POI_ROW = "poi"  # the kind of the POI row's own text
NO_KIND = "place"  # of places whose table tells no category
NO_VIEW_KIND = "view"  # of texts whose table tells no kind
ALL_KINDS = "all"
CANDIDATES = 64  # of a kind, from which the one farthest from the places chosen so far is taken
FACT_COLUMNS = {
    "street": "street",
    "number": "housenumber",
    "crossing": "crossing_a",
    "area": "area",
    "landmark": "landmark",
    "neighbour": "neighbour",
    "brand": "brand",
    "alt names": "alt_names",
    "district": "district",
    "city": "city",
    "boundaries": "admin",
}
_EMPTY = ("", "{}", "[]")
_COMPASS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")


@dataclass(frozen=True)
class PlaceCard:
    """One place as it is shown.

    Attributes:
        poi_id: Its id; "lng,lat" where the tables have no ids.
        name: Its name, "" where there is none or none is known.
        category: "key=value" of OpenStreetMap, or what the table says; "" where it says nothing.
        kind: The key of the category.
        lng, lat: Degrees, WGS-84.
        facts: What is known of it, written out.
        views: (kind of view, text), distinct; the POI row first.
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
        """The same as plain values; the views as {"kind", "text"}."""
        shown = {name: getattr(self, name) for name in ("poi_id", "name", "category", "kind", "lng", "lat", "facts")}
        return shown | {"views": [{"kind": kind, "text": text} for kind, text in self.views]}


@dataclass(frozen=True)
class Share:
    """Which part (0 to 1) of the places of a kind has each fact."""

    kind: str
    places: int
    facts: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"kind": self.kind, "places": self.places, "facts": self.facts}


@dataclass(frozen=True)
class City:
    """Places, a row each, and their views.

    Attributes:
        places: poi_id (str), name, category, kind, lng, lat and whatever columns of facts are at hand.
        views: poi_id, kind, text, each once; the POI rows first.
        has_views: Whether there are texts beside those of POI rows.
    """

    places: pd.DataFrame
    views: pd.DataFrame
    has_views: bool

    @property
    def fact_names(self) -> list[str]:
        """The facts that the tables at hand can tell."""
        return [name for name, column in FACT_COLUMNS.items() if column in self.places.columns]

    @property
    def is_osm(self) -> bool:
        """Whether the ids are those of OpenStreetMap things ("n1", "w1", "r1")."""
        return bool(self.places["poi_id"].str.fullmatch(r"[nwr]\d+").all())

    def cards(self, rows: Sequence[int]) -> list[PlaceCard]:
        """The places with these row numbers, in that order."""
        chosen = self.places.iloc[list(rows)]
        texts: dict[str, list[tuple[str, str]]] = defaultdict(list)
        wanted = self.views[self.views["poi_id"].isin(chosen["poi_id"])]
        for poi_id, kind, text in zip(wanted["poi_id"], wanted["kind"], wanted["text"], strict=True):
            texts[poi_id].append((kind, text))
        return [
            PlaceCard(
                row["poi_id"],
                row["name"],
                row["category"],
                row["kind"],
                float(row["lng"]),
                float(row["lat"]),
                facts_of(row),
                texts[row["poi_id"]],
            )
            for row in rows_of(chosen)
        ]

    def card(self, poi_id: str) -> PlaceCard:
        """One place by its id. Raises InputError if there is none."""
        found = np.flatnonzero(self.places["poi_id"] == poi_id)
        if not len(found):
            hint = f"Ids there look like {', '.join(self.places['poi_id'].head(3))}."
            raise InputError(f"no place has the id {poi_id!r}", where="--place", hint=hint)
        return self.cards([int(found[0])])[0]

    def choose(self, count: int, seed: int) -> list[int]:
        """Row numbers of up to ``count`` places, spread over kinds (by the root of their size) and over space."""
        count = min(max(count, 0), len(self.places))
        generator = np.random.default_rng(seed)
        where = local_metres(self.places["lng"], self.places["lat"], *self.places[["lng", "lat"]].median())
        kinds = self.places["kind"].to_numpy()
        sizes = self.places["kind"].value_counts().sort_index()
        order = np.repeat(sizes.index.to_numpy(), _quotas(sizes.to_numpy(), count))
        nearest = np.full(len(where), np.inf)
        free = np.ones(len(where), bool)
        chosen: list[int] = []
        for kind in generator.permutation(order):
            of_kind = np.flatnonzero(free & (kinds == kind))
            some = of_kind[generator.permutation(len(of_kind))[:CANDIDATES]]
            row = int(some[np.argmax(nearest[some])])
            free[row] = False
            nearest = np.minimum(nearest, np.hypot(*(where - where[row]).T))
            chosen.append(row)
        return sorted(chosen, key=lambda row: (-sizes[kinds[row]], kinds[row], row))

    def shares(self) -> list[Share]:
        """A share for every kind of place, the biggest first, and one for all; empty where no facts are at hand."""
        names = self.fact_names
        if not names:
            return []
        given = pd.DataFrame({name: _given(self.places[FACT_COLUMNS[name]]) for name in names})
        kinds_of = self.places["kind"]
        sizes = kinds_of.value_counts()
        kinds = sorted(sizes.index, key=lambda kind: (-sizes[kind], kind))
        parts = [(str(kind), given[kinds_of == kind]) for kind in kinds] + [(ALL_KINDS, given)]
        return [Share(kind, len(part), {name: float(part[name].mean()) for name in names}) for kind, part in parts]


def _quotas(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of ``count`` fall to each kind: by the root of its size, largest remainders, never more than it has."""
    quotas = np.zeros(len(sizes), int)
    while (left := count - quotas.sum()) > 0:
        weights = np.where(quotas < sizes, np.sqrt(sizes), 0.0)
        exact = left * weights / weights.sum()
        more = np.floor(exact).astype(int)
        rest = np.argsort(more - exact, kind="stable")[: left - more.sum()]
        more[rest] += 1
        quotas = np.minimum(quotas + more, sizes)
    return quotas


def is_given(value: Any) -> bool:
    """Whether a cell says anything: no null, no NaN, no empty text or list."""
    if value is None or value is pd.NA:
        return False
    if isinstance(value, float):
        return not np.isnan(value)
    if isinstance(value, str):
        return value.strip() not in _EMPTY
    return len(value) > 0 if hasattr(value, "__len__") else True


def _given(cells: pd.Series) -> pd.Series:
    """``is_given`` for a column, fast where it is one of texts or numbers."""
    if pd.api.types.is_numeric_dtype(cells):
        return cells.notna()
    if isinstance(cells.dtype, pd.StringDtype):
        return cells.notna() & ~cells.fillna("").str.strip().isin(_EMPTY)
    return cells.map(is_given)


def facts_of(row: dict[str, Any]) -> dict[str, str]:
    """The facts of a place written out: names, with metres and the compass point as seen from what is named."""
    found = {}
    for name, column in FACT_COLUMNS.items():
        value = row.get(column)
        if not is_given(value):
            continue
        text = _told(value)
        if name == "street" and _by_address(row):
            text += " (by address)"
        elif name == "crossing":
            other = row.get("crossing_b")
            text += f" / {other}" if is_given(other) else ""
        found[name] = text + _way(row, name)
    if is_given(row.get("words")):
        found = {"words": _told(row["words"]), **found}
    return found


def _way(row: dict[str, Any], name: str) -> str:
    """ " (40 m NE of it)", or " (in its NE)" for an area, or nothing where it is not known."""
    metres, bearing = _number(row.get(f"{name}_metres")), _number(row.get(f"{name}_bearing"))
    point = "" if bearing is None else _COMPASS[round(bearing / 45.0) % 8]
    if name == "area":
        return f" (in its {point})" if point else ""
    if metres is None or (name == "street" and _by_address(row)):
        return ""
    return f" ({metres:.0f} m {point} of it)" if point else f" ({metres:.0f} m away)"


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _by_address(row: dict[str, Any]) -> bool:
    flag = row.get("street_by_address")
    return is_given(flag) and bool(flag)


def _told(value: Any) -> str:
    """A fact as text: lists and the JSON of the boundaries as "a, b"."""
    if isinstance(value, str) and value[:1] in "{[":
        try:
            value = json.loads(value)
        except ValueError:
            return value
    if isinstance(value, dict):
        return ", ".join(f"{key} {inner}" for key, inner in value.items())
    return value if isinstance(value, str) else ", ".join(map(str, value))
