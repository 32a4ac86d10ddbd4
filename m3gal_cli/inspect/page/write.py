"""Writer of the map page of ``data inspect``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.files import atomic_text
from m3gal_cli.inspect.city import City, PlaceDetails
from m3gal_cli.inspect.page.rendering import attribution_of, render_map_page

MAX_PLACES = 20_000  # browsers draw and search this many without delay


def write_page(
    city: City, path: Path, title: str, seed: int = 0, max_places: int = MAX_PLACES, attribution: str | None = None
) -> int:
    """Write the map page of a city atomically and return the number of places on it.

    A city of more than ``max_places`` places is sampled. The default attribution is OpenStreetMap if the ids are those
    of OpenStreetMap elements, else an unknown source. Raises InputError if the file cannot be written.
    """
    total = len(city.places)
    rows: Sequence[int] = range(total)
    summary = f"{total:,} places"
    if total > max_places:
        rows = np.sort(np.random.default_rng(seed).choice(total, max_places, replace=False)).tolist()
        summary = f"A sample of {max_places:,} of {total:,} places (seed {seed})"
    attribution = attribution or attribution_of(city.places["poi_id"])
    data = _page_data(city.details(rows)) | {"summary": summary, "attribution": attribution}
    template, panels = ((files(__package__) / name).read_text(encoding="utf-8") for name in ("page.html", "panels.js"))
    text = render_map_page(title, data, template, panels)
    with atomic_text(path) as file:
        file.write(text)
    return len(rows)


def _page_data(places: Sequence[PlaceDetails]) -> dict[str, Any]:
    """Return the places as short rows that refer to lists of kinds, fact names and view kinds by position.

    A row is [id, name, kind, lng, lat, category, [fact name, fact, …], [view kind, view, …]].
    """
    counts: dict[str, int] = {}
    for place in places:
        counts[place.kind] = counts.get(place.kind, 0) + 1
    kinds = {kind: i for i, kind in enumerate(sorted(counts, key=lambda kind: (-counts[kind], kind)))}
    fact_names: dict[str, int] = {}
    view_kinds: dict[str, int] = {}
    rows = []
    for place in places:
        facts = _with_positions(place.facts.items(), fact_names)
        views = _with_positions(place.views, view_kinds)
        lng, lat = round(place.lng, 7), round(place.lat, 7)
        rows.append([place.poi_id, place.name, kinds[place.kind], lng, lat, place.category, facts, views])
    return {"kinds": list(kinds), "factNames": list(fact_names), "viewKinds": list(view_kinds), "places": rows}


def _with_positions(pairs: Iterable[tuple[str, str]], positions: dict[str, int]) -> list[int | str]:
    """Return pairs as one flat list, each name replaced by its position; new names are appended to ``positions``."""
    return [x for name, text in pairs for x in (positions.setdefault(name, len(positions)), text)]
