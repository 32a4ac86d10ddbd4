"""Rendering of a page with a map: one HTML file that loads nothing from the network and runs no script from the data.

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
from collections.abc import Iterable
from importlib.resources import files
from typing import Any

OSM_ATTRIBUTION = "© OpenStreetMap contributors"
UNKNOWN_ATTRIBUTION = "Source of the data: unknown"
_OSM_ID = re.compile(r"[nwr]\d+")  # of a node, way or relation
_UNSAFE = re.compile("[<>&\u2028\u2029\ud800-\udfff]")
_SLOT = re.compile(r"\{\{(\w+)\}\}")


def render_map_page(title: str, data: dict[str, Any], template: str, panels: str, style: str = "") -> str:
    """Return a page as HTML.

    Args:
        title: The title.
        data: Data of the page, with the kinds of place (``kinds``), ``summary`` and ``attribution``.
        template: HTML with the slots ``{{title}}``, ``{{style}}``, ``{{script}}``, ``{{data}}``, ``{{style_hash}}`` and
            ``{{script_hash}}``, and the elements of the map.
        panels: Script of the panels beside the map (see map.js).
        style: Further style rules.
    """
    folder = files(__package__)
    map_script, input_script, own_style = (
        (folder / name).read_text(encoding="utf-8") for name in ("map.js", "input.js", "page.css")
    )
    script = "\n".join(["(() => {", "'use strict';", map_script, panels, input_script, "})();\n"])
    style = own_style + style
    slots = {
        "title": html.escape(title),
        "style": style,
        "style_hash": _policy_hash(style),
        "script": script,
        "script_hash": _policy_hash(script),
        "data": safe_json(data),
    }
    return _SLOT.sub(lambda slot: slots[slot.group(1)], template)


def attribution_of(poi_ids: Iterable[str]) -> str:
    """Return the attribution of OpenStreetMap if all ids are of its elements (n1, w1, r1), else an unknown one."""
    ids = list(poi_ids)
    return OSM_ATTRIBUTION if ids and all(_OSM_ID.fullmatch(str(one)) for one in ids) else UNKNOWN_ATTRIBUTION


def safe_json(value: Any) -> str:
    """Return JSON for use in a script element: no text in it can end the element or is invalid UTF-8."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _UNSAFE.sub(lambda char: f"\\u{ord(char.group()):04x}", text)


def _policy_hash(text: str) -> str:
    """Return the hash by which a content security policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
