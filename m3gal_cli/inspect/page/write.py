"""Writer of the map page: one HTML file that loads nothing from the network and runs no script from the data.

Names and texts of a map are untrusted. The page holds them as JSON in a script element that browsers do not run.
Characters that could end the element are escaped. The script of the page inserts the texts into the document as text.
The content security policy allows the script and the style by their hashes, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.files import atomic_text
from m3gal_cli.inspect.city import City, PlaceDetails

MAX_PLACES = 20_000  # browsers draw and search this many without delay
OSM_ATTRIBUTION = "© OpenStreetMap contributors"
UNKNOWN_ATTRIBUTION = "Source of the data: unknown"
_SCRIPTS = ("map.js", "panels.js", "input.js")
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_SLOT = re.compile(r"\{\{(\w+)\}\}")


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
    default = OSM_ATTRIBUTION if city.is_osm else UNKNOWN_ATTRIBUTION
    data = _page_data(city.details(rows)) | {"summary": summary, "attribution": attribution or default}
    text = _render(title, data)
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


def _render(title: str, data: dict[str, Any]) -> str:
    folder = files(__package__)
    parts = [(folder / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    script = "\n".join(["(() => {", "'use strict';", *parts, "})();\n"])
    style = (folder / "page.css").read_text(encoding="utf-8")
    slots = {
        "title": html.escape(title),
        "style": style,
        "style_hash": _policy_hash(style),
        "script": script,
        "script_hash": _policy_hash(script),
        "data": safe_json(data),
    }
    template = (folder / "page.html").read_text(encoding="utf-8")
    return _SLOT.sub(lambda slot: slots[slot.group(1)], template)


def safe_json(value: Any) -> str:
    """Return JSON for use in a script element: no text in it can end the element or is invalid UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda char: f"\\u{ord(char.group()):04x}", text)


def _policy_hash(text: str) -> str:
    """Return the hash by which a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
