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
from string import Formatter
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
    "extends", "language", "join", "full", "full_join", "phrases", "views", "connectors", "bearings", "bearing_forms",
    "sides", "metres", "metres_step", "admin", "categories", "sub", "sub_name", "parts", "suffixes", "drop", "variants",
    "slips", "shorten", "numerals", "number", "fallback", "settlements",
}  # fmt: skip
PART_SLOTS = {"area", "bearing", "ref"}  # what the wording of a part of a compound may hold
_SLOT = re.compile(r"{(\w+)}")


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
class Suffixes:
    """One group of sub-POI suffixes: what stands for one and the same building, gate or car park of a compound.

    Attributes:
        kind: Its name; pairs are of the kind ``sub_<name>``.
        of: Matches the categories ("landuse=residential") whose places have such parts.
        unless: Matches names whose places have none; None for no such names.
        row: Wordings in a POI row. ``{n}`` is a number, ``{b}`` a bearing word.
        typed: Wordings as people type them.
        words: Category words of the row.
        times: Parts made up for each place.
    """

    kind: str
    of: re.Pattern[str]
    unless: re.Pattern[str] | None
    row: tuple[str, ...]
    typed: tuple[str, ...]
    words: str
    times: int = 1


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
        read = _Reader(data, where)
        self.language = read.text("language", "")
        self.join = read.text("join", " ")
        self.full_join = read.text("full_join", ",")
        self.metres_step = int(read.number("metres_step", 10, least=1))
        self.metres = read.wording("metres", "{} m")
        self.number = read.wording("number", "{}")
        self.sub_name = [_slots(s, {"area", "landmark", "street", "sub", "bearing"}, "sub_name", where)
                         for s in read.words("sub_name", ["{area} {sub}"])]  # fmt: skip
        self.connectors = {k: _words(v) for k, v in read.mapping("connectors").items()}
        self.phrases: dict[str, list[tuple[Part, ...]]] = {}
        for phrase, ways in read.mapping("phrases").items():
            self.phrases[phrase] = [self._parts(way, f"phrases.{phrase}") for way in _words(ways)]
        self.full = self._parts(data.get("full", "name"), "full")
        every = [self._view(kind, v) for kind, v in read.mapping("views").items() if v is not None]
        self.views = [template for template in every if template.weight > 0]
        self.bearings = self._bearings(read.mapping("bearings"))
        forms = read.mapping("bearing_forms")
        self.bearing_forms = tuple(
            tuple(_slots(w, {""}, f"bearing_forms.{k}", where) for w in _words(forms.get(k, "{}")))
            for k in ("straight", "diagonal")
        )
        self.sides = tuple(_slots(w, {""}, "sides", where) for w in read.words("sides", ["{}"]))
        self.admin = {k: self._levels(k, v) for k, v in read.mapping("admin").items()}
        self.settlements = frozenset(read.words("settlements", []))
        self.categories = {k: _category(v) for k, v in read.mapping("categories").items()}
        self.by_name = self._by_name()
        self.fallback = read.text("fallback", "{value}")
        self.parts = {
            k: tuple(_slots(w, PART_SLOTS, f"parts.{k}", where) for w in _words(v))
            for k, v in read.mapping("parts").items()
        }
        self.suffixes = [self._suffixes(k, v) for k, v in read.mapping("suffixes").items() if v is not None]
        self.sub = [self._pattern(p) for p in read.words("sub", [])]
        self.drop = [self._pattern(p) for p in read.words("drop", [])]
        self.variants = [_words(v) for v in data.get("variants") or []]
        self.slips = read.number("slips", 0.12, most=1)
        self.shorten = read.number("shorten", 0.0, most=1)
        self.numerals = read.text("numerals", "")

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

    def bearing_words(self, degrees: float) -> tuple[str, ...]:
        """What people write for a bearing, the plain word first ("东", "东侧", "以东" ...)."""
        step = int((degrees % 360.0 + 22.5) // 45.0) % 8
        return tuple(form.format(self.bearings[step]) for form in self.bearing_forms[step % 2])

    def side_words(self, degrees: float) -> tuple[str, ...]:
        """What people write for the side of a street."""
        return tuple(side.format(self.bearing(degrees)) for side in self.sides)

    def part_names(self, category: tuple[str, str], values: dict[str, str]) -> tuple[str, ...]:
        """Names of a part of a compound that has none of its own, the plainest first; () where it cannot be told.

        Args:
            category: OSM key and value of the part.
            values: area, bearing (a word) and ref; a wording that needs an empty one is passed over.
        """
        key, value = category
        wordings = self.parts.get(f"{key}={value}", self.parts.get(f"{key}=*", ()))
        return tuple(w.format_map(values) for w in wordings if all(values.get(s) for s in _SLOT.findall(w)))

    @cached_property
    def sub_pattern(self) -> re.Pattern[str] | None:
        """Matches names that many places share: gates, car parks, buildings by number."""
        return re.compile("|".join(f"(?:{p.pattern})" for p in self.sub), re.IGNORECASE) if self.sub else None

    def is_sub(self, name: str) -> bool:
        """Whether ``name`` says nothing without the place that it belongs to (north gate, building 3, car park)."""
        return self.sub_pattern is not None and self.sub_pattern.fullmatch(name.strip()) is not None

    def _view(self, kind: str, data: Any) -> Template:
        at = f"views.{kind}"
        data = data if isinstance(data, dict) else {"parts": data}
        if set(data) - {"parts", "weight", "swap"} or "parts" not in data:
            hint = 'Write views.KIND: {parts: "name @near landmark", weight: 2, swap: false}; null switches it off.'
            raise InputError("expected parts, weight?, swap?", where=f"{self.where}: {at}", hint=hint)
        weight, swap = data.get("weight", 1.0), data.get("swap", False)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < 1e6:
            raise InputError(f"expected a weight of at least 0, got {weight!r}", where=f"{self.where}: {at}.weight")
        if not isinstance(swap, bool):
            raise InputError(f"expected true or false, got {swap!r}", where=f"{self.where}: {at}.swap")
        return Template(kind, self._parts(data["parts"], at), float(weight), swap)

    def _levels(self, kind: str, value: Any) -> list[int]:
        if (
            kind not in ("district", "city")
            or not isinstance(value, list)
            or not all(isinstance(n, int) for n in value)
        ):
            hint = "Write admin: {district: [9, 10], city: [8]}: values of admin_level, the first found counts."
            raise InputError(f"expected admin levels, got {value!r}", where=f"{self.where}: admin.{kind}", hint=hint)
        return value

    def _suffixes(self, kind: str, data: Any) -> Suffixes:
        where = f"{self.where}: suffixes.{kind}"
        known = {"of", "unless", "row", "typed", "words", "times"}
        if not isinstance(data, dict) or set(data) - known or not {"of", "row", "typed"} <= set(data):
            raise InputError("expected of, row, typed, words?, unless?, times?", where=where)
        row, typed = (
            tuple(_slots(w, {"n", "b"}, f"suffixes.{kind}.{key}", self.where) for w in _words(data[key]))
            for key in ("row", "typed")
        )
        times = data.get("times", 1)
        if not isinstance(times, int) or not 1 <= times <= 20:
            raise InputError(f"expected 1 to 20, got {times!r}", where=f"{where}.times")
        unless = self._pattern(data["unless"]) if data.get("unless") else None
        return Suffixes(kind, self._pattern(data["of"]), unless, row, typed, str(data.get("words", "")), times)

    def _parts(self, items: Any, at: str) -> tuple[Part, ...]:
        if not isinstance(items, str) or not items.strip():
            raise InputError(f"expected parts with spaces between, got {items!r}", where=f"{self.where}: {at}")
        return tuple(self._part(item, f"{self.where}: {at}") for item in items.split())

    def _part(self, item: str, where: str) -> Part:
        if item.startswith("="):
            return Part("text", item[1:])
        if item.startswith("@"):
            if item[1:] not in self.connectors:
                raise InputError(f"no such connector {item!r}", where=where, hint="Add it under connectors.")
            return Part("connector", item[1:])
        field = item.removesuffix("?")
        if field not in FIELDS and field not in self.phrases:
            hint = f"Fields: {', '.join(sorted(FIELDS))}. A phrase must stand above the phrase that uses it."
            raise InputError(f"no such field {field!r}", where=where, hint=hint)
        return Part("field", field, item.endswith("?"))

    def _bearings(self, data: Any) -> tuple[str, ...]:
        missing = [b for b in BEARINGS if b not in data]
        if missing:
            hint = "Quote N and the like if YAML takes them for something else."
            raise InputError(f"no word for {missing[0]}", where=f"{self.where}: bearings", hint=hint)
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


class _Reader:
    """Values of a locale file by key, with their types checked. Raises InputError with file and key."""

    def __init__(self, data: dict[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def _bad(self, key: str, expected: str) -> InputError:
        return InputError(f"expected {expected}, got {str(self.data[key])[:60]!r}", where=f"{self.where}: {key}")

    def mapping(self, key: str) -> dict[str, Any]:
        value = self.data.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._bad(key, "a mapping")
        return {str(k): v for k, v in (value or {}).items()}

    def text(self, key: str, default: str) -> str:
        value = self.data.get(key, default)
        if not isinstance(value, str):
            raise self._bad(key, "text")
        return value

    def wording(self, key: str, default: str) -> str:
        return _slots(self.text(key, default), {""}, key, self.where)

    def words(self, key: str, default: list[str]) -> tuple[str, ...]:
        value = self.data.get(key, default)
        if isinstance(value, dict):
            raise self._bad(key, "a list of texts")
        return _words(value)

    def number(self, key: str, default: float, least: float = 0, most: float = 1e6) -> float:
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._bad(key, f"a number from {least:g} to {most:g}")
        return float(value)


def _slots(wording: str, allowed: set[str], key: str, where: str) -> str:
    """The wording, if its braces hold only what may be filled in. Raises InputError."""
    try:
        found = {name for _, name, _, _ in Formatter().parse(wording) if name is not None}
    except ValueError as error:
        raise InputError(f"{wording!r}: {error}", where=f"{where}: {key}") from error
    if found - allowed:
        names = ", ".join(f"{{{a}}}" for a in sorted(allowed))
        what = f"{wording!r} holds {{{sorted(found - allowed)[0]}}}"
        raise InputError(what, where=f"{where}: {key}", hint=f"It may hold {names}.")
    return wording


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
