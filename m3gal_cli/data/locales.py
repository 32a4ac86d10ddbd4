"""Locales: category words, templates, connectors, bearing words and spelling variants, all from YAML.

A template is an ordered row of parts with spaces between:

- ``name`` — a field of the place (``FIELDS``); the template needs it
- ``name?`` — an optional field: left out where the place has none, and droppable by the noise step
- ``@near`` — one of the connectors ``near``
- ``=text`` — the text itself

A locale file may say ``extends: zh`` (or en, neutral); its mappings are merged over those of the other one, its lists
replace them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from m3gal_cli.data.files import require_file
from m3gal_cli.errors import InputError

BUNDLED = ("zh", "en", "neutral")
BEARINGS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")

# What a template can speak of; docs of each: ``osm/fields.py``.
FIELDS = frozenset(
    {
        *("name", "plain", "rest", "brand", "alt", "words", "word", "told", "lines"),
        *("street", "number", "side", "area", "district", "city", "postcode"),
        *("crossing_a", "crossing_b", "crossing_bearing", "crossing_metres"),
        *("landmark", "landmark_bearing", "neighbour", "neighbour_bearing"),
        *("street_word", "landmark_word", "neighbour_word", "crossing_word", "area_word"),
    }
)
_KEYS = {
    "extends", "language", "join", "full", "full_join", "phrases", "views", "connectors", "bearings", "sides", "metres",
    "metres_step", "admin", "categories", "sub", "sub_name", "drop", "variants", "numerals", "number", "fallback",
    "settlements",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part of a template.

    Attributes:
        kind: "field", "connector" or "text".
        value: The field, the connector or the text.
        optional: Whether the template holds without it.
    """

    kind: str
    value: str
    optional: bool = False


@dataclass(frozen=True)
class Template:
    """One way of describing a place; ``weight`` says how often, relative to the others, people type so."""

    kind: str
    parts: tuple[Part, ...]
    weight: float = 1.0
    swap: bool = False


@dataclass(frozen=True)
class Category:
    """The words of one kind of place: ``words`` as in a POI table, coarse to fine; ``typed`` as people type them.

    ``specific`` is False where the words come from a ``key=*`` entry and so say too little to look for.
    """

    words: tuple[str, ...]
    typed: tuple[str, ...]
    specific: bool = True


class Locale:
    """A language's way of telling places. The attributes are those of the YAML file, checked."""

    def __init__(self, name: str, data: dict[str, Any], where: str) -> None:
        unknown = sorted(set(data) - _KEYS)
        if unknown:
            raise InputError(f"unknown key {unknown[0]!r}", where=where, hint=f"Known: {', '.join(sorted(_KEYS))}.")
        self.name = name
        self.where = where
        self.language = str(data.get("language", ""))
        self.join = str(data.get("join", " "))
        self.full_join = str(data.get("full_join", ","))
        self.metres_step = int(data.get("metres_step", 10))
        self.metres = str(data.get("metres", "{} m"))
        self.number = str(data.get("number", "{}"))
        self.sub_name = [str(s) for s in data.get("sub_name", ["{area} {sub}"])]
        self.connectors = {k: _words(v) for k, v in dict(data.get("connectors", {})).items()}
        self.phrases: dict[str, list[tuple[Part, ...]]] = {}
        for phrase, ways in dict(data.get("phrases", {})).items():
            self.phrases[phrase] = [self._parts(way) for way in ways]
        self.full = self._parts(data.get("full", "name"))
        self.views = [self._view(kind, v) for kind, v in dict(data.get("views", {})).items()]
        self.bearings = self._bearings(data.get("bearings", {}))
        self.sides = _words(data.get("sides", ["{}"]))
        self.admin = {k: [int(x) for x in v] for k, v in dict(data.get("admin", {})).items()}
        self.settlements = frozenset(_words(data.get("settlements", [])))
        self.categories = {k: _category(v) for k, v in dict(data.get("categories", {})).items()}
        self.by_name = self._by_name()
        self.fallback = str(data.get("fallback", "{value}"))
        self.sub = [self._pattern(p) for p in data.get("sub", [])]
        self.drop = [self._pattern(p) for p in data.get("drop", [])]
        self.variants = [_words(v) for v in data.get("variants", [])]
        self.numerals = str(data.get("numerals", ""))

    def category(self, key: str, value: str, name: str = "") -> Category:
        """The words for a tag and name: the first entry by name, the tag's own, ``key=*``, else ``fallback``."""
        for pattern, category in self.by_name.get(f"{key}={value}", ()):
            if pattern.search(name):
                return category
        if f"{key}={value}" in self.categories:
            return self.categories[f"{key}={value}"]
        if f"{key}=*" in self.categories:
            return replace(self.categories[f"{key}=*"], specific=False)
        word = self.fallback.format(key=key.replace("_", " "), value=value.partition(";")[0].replace("_", " "))
        return Category((word,), (word,), value != "yes") if word else Category((), (), False)

    def bearing(self, degrees: float) -> str:
        """The word for a compass bearing in degrees (0 north, 90 east)."""
        return self.bearings[int((degrees % 360.0 + 22.5) // 45.0) % 8]

    @cached_property
    def sub_pattern(self) -> re.Pattern[str] | None:
        """Matches names that many places share: gates, car parks, buildings by number."""
        return re.compile("|".join(f"(?:{p.pattern})" for p in self.sub), re.IGNORECASE) if self.sub else None

    def is_sub(self, name: str) -> bool:
        """Whether ``name`` says nothing without the place that it belongs to (north gate, building 3, car park)."""
        return self.sub_pattern is not None and self.sub_pattern.fullmatch(name.strip()) is not None

    def _view(self, kind: str, data: Any) -> Template:
        if not isinstance(data, dict):
            data = {"parts": data}
        extra = set(data) - {"parts", "weight", "swap"}
        if extra or "parts" not in data:
            raise InputError(f"views.{kind}: expected parts, weight?, swap?", where=self.where)
        return Template(kind, self._parts(data["parts"]), float(data.get("weight", 1.0)), bool(data.get("swap", False)))

    def _parts(self, items: Any) -> tuple[Part, ...]:
        if not isinstance(items, str) or not items.strip():
            raise InputError(f"expected parts with spaces between, got {items!r}", where=self.where)
        return tuple(self._part(item) for item in items.split())

    def _part(self, item: str) -> Part:
        if item.startswith("="):
            return Part("text", item[1:])
        if item.startswith("@"):
            if item[1:] not in self.connectors:
                raise InputError(f"no such connector {item!r}", where=self.where, hint="Add it under connectors.")
            return Part("connector", item[1:])
        field = item.removesuffix("?")
        if field not in FIELDS and field not in self.phrases:
            hint = f"Fields: {', '.join(sorted(FIELDS))}. A phrase must stand above the phrase that uses it."
            raise InputError(f"no such field {field!r}", where=self.where, hint=hint)
        return Part("field", field, item.endswith("?"))

    def _bearings(self, data: Any) -> tuple[str, ...]:
        missing = [b for b in BEARINGS if b not in data]
        if missing:
            raise InputError(f"bearings: no word for {missing[0]}", where=self.where)
        return tuple(str(data[b]) for b in BEARINGS)

    def _by_name(self) -> dict[str, list[tuple[re.Pattern[str], Category]]]:
        """The entries "key=value ~ expression", taken out of ``categories``."""
        out: dict[str, list[tuple[re.Pattern[str], Category]]] = {}
        for entry in [k for k in self.categories if " ~ " in k]:
            tag, _, expression = entry.partition(" ~ ")
            out.setdefault(tag.strip(), []).append((self._pattern(expression.strip()), self.categories.pop(entry)))
        return out

    def _pattern(self, text: Any) -> re.Pattern[str]:
        try:
            return re.compile(str(text))
        except re.error as error:
            raise InputError(f"not a regular expression: {text!r} ({error})", where=self.where) from error


def load_locale(name: str) -> Locale:
    """A bundled locale by name, or one from a YAML file by its path.

    Raises:
        InputError: no such locale, broken YAML, unknown keys or fields.
    """
    data, where = _load(name)
    return Locale(Path(name).stem, data, where)


def _load(name: str, depth: int = 0) -> tuple[dict[str, Any], str]:
    if name in BUNDLED:
        where = f"locales/{name}.yaml"
        text = resources.files("m3gal_cli.data").joinpath("locales", f"{name}.yaml").read_text("utf-8")
    elif name.endswith((".yaml", ".yml")):
        where = name
        text = require_file(Path(name), "locale file").read_text("utf-8")
    else:
        hint = f"Use auto, {', '.join(BUNDLED)}, or the path of a .yaml file."
        raise InputError(f"no such locale {name!r}", hint=hint)
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"not YAML: {' '.join(str(error).split())[:120]}", where=where) from error
    if not isinstance(data, dict):
        raise InputError("expected a mapping", where=where)
    base = data.pop("extends", None)
    if base is None:
        return data, where
    if depth > 4:
        raise InputError("locales extend each other in a circle", where=where)
    below, _ = _load(str(base), depth + 1)
    return _merged(below, data), where


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``: mappings are merged one level deep, anything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(v) for v in value) if isinstance(value, list) else (str(value),)


def _category(value: Any) -> Category:
    """``"coarse, fine | typed, typed"``; without a bar people type the finest word."""
    words, _, typed = str(value).partition("|")
    first = tuple(w.strip() for w in words.split(",") if w.strip())
    second = tuple(w.strip() for w in typed.split(",") if w.strip())
    return Category(first, second or first[-1:])
