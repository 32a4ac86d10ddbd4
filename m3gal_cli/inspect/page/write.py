"""Writing the map page: one file that asks no network for anything and runs nothing that stands in the data.

Names and texts of a map are anybody's words. They stand in the page as JSON in a script element that no browser runs,
every character that could end it escaped; the page's own script, the only one that its policy lets run, puts them into
the document as text alone.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text
from m3gal_cli.inspect.city import City, PlaceCard

PAGE_PLACES = 20_000  # what a browser draws and searches at ease
OSM = "© OpenStreetMap contributors"
UNKNOWN = "Source of the data: unknown"
_SCRIPTS = ("map.js", "places.js", "hands.js")
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_SLOT = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Page:
    """What was written: the file, how many places are on it, and of how many."""

    path: Path
    shown: int
    places: int


def write_page(
    city: City, path: Path, title: str, seed: int = 0, most: int = PAGE_PLACES, attribution: str | None = None
) -> Page:
    """Write the map page of a city, atomically.

    Args:
        city: The places and their views.
        path: The .html file.
        title: Heads the page.
        seed: Chooses the places where there are more than ``most``.
        most: Places on the page at most.
        attribution: Who made the data; by default OpenStreetMap's contributors where the ids are of OpenStreetMap, else
            that the source is unknown.

    Raises:
        InputError: ``most`` below 1; a path that cannot be written.
    """
    if most < 1:
        raise InputError(f"a page of {most} places shows nothing", where="--html-places", hint="Ask for 1 or more.")
    total = len(city.places)
    rows: Sequence[int] = range(total)
    if total > most:
        rows = np.sort(np.random.default_rng(seed).choice(total, most, replace=False)).tolist()
    cards = city.cards(rows)
    summary = f"{total:,} places"
    if total > most:
        summary = f"A sample of {len(cards):,} of {total:,} places (seed {seed})"
    credit = attribution or (OSM if city.is_osm else UNKNOWN)
    text = _render(title, _data(cards, summary, credit))
    with atomic_text(path) as file:
        file.write(text)
    return Page(path, len(cards), total)


def _data(cards: Sequence[PlaceCard], summary: str, credit: str) -> dict[str, Any]:
    """What the script reads: lists of names once, places as short rows that point into them."""
    counts: dict[str, int] = {}
    for card in cards:
        counts[card.kind] = counts.get(card.kind, 0) + 1
    kinds = {kind: i for i, kind in enumerate(sorted(counts, key=lambda kind: (-counts[kind], kind)))}
    fact_names: dict[str, int] = {}
    view_kinds: dict[str, int] = {}
    places = []
    for card in cards:
        facts: list[int | str] = []
        for name, fact in card.facts.items():
            facts += [fact_names.setdefault(name, len(fact_names)), fact]
        views: list[int | str] = []
        for kind, text in card.views:
            views += [view_kinds.setdefault(kind, len(view_kinds)), text]
        spot = (round(card.lng, 7), round(card.lat, 7))
        places.append([card.poi_id, card.name, kinds[card.kind], *spot, card.category, facts, views])
    return {
        "summary": summary,
        "attribution": credit,
        "kinds": list(kinds),
        "factNames": list(fact_names),
        "viewKinds": list(view_kinds),
        "places": places,
    }


def _render(title: str, data: dict[str, Any]) -> str:
    here = files(__package__)
    parts = [(here / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    script = "\n".join(["(() => {", "'use strict';", *parts, "})();\n"])
    style = (here / "page.css").read_text(encoding="utf-8")
    slots = {
        "title": html.escape(title),
        "style": style,
        "style_hash": _digest(style),
        "script": script,
        "script_hash": _digest(script),
        "data": safe_json(data),
    }
    template = (here / "page.html").read_text(encoding="utf-8")
    return _SLOT.sub(lambda slot: slots[slot.group(1)], template)


def safe_json(value: Any) -> str:
    """JSON that may stand in a script element: no text in it can end the element, or upset a reader of UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda char: f"\\u{ord(char.group()):04x}", text)


def _digest(text: str) -> str:
    """What a content security policy calls an inline script or style by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
