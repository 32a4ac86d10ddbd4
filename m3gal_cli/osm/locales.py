"""Locales: category words, view templates, bearing words and spelling variants of a language, from YAML.

A template is a sequence of parts with spaces between:

- ``name``: a slot (see ``SLOTS``) that the place must have
- ``name?``: an optional slot; noise may drop it
- ``@near``: one of the connectors ``near``
- ``=text``: literal text

``extends: zh`` (or en, neutral, a path) merges the mappings of a file into those of another file and replaces lists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from m3gal_cli.errors import InputError
from m3gal_cli.files import require_file
from m3gal_cli.osm.locale_values import CheckedMapping, parse_yaml

BUNDLED = ("zh", "en", "neutral")
BEARINGS = ("N", "NE", "E", "SE", "S", "SW", "W", "NW")
POI_KIND = "poi"  # the kind of the POI row's own view

# The slots of templates, as ``locales/neutral.yaml`` documents them; ``template_slots`` fills them.
SLOTS = frozenset(
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
    "slips", "shorten", "numerals", "number", "fallback", "settlements", "apart",
}  # fmt: skip
_PART_VALUES = {"area", "bearing", "ref"}  # values in the name of an unnamed part
_GENERIC_NAME_VALUES = {"area", "landmark", "street", "sub", "bearing"}
_BRACES = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class TemplatePart:
    """One part of a template.

    Attributes:
        kind: "slot", "connector" or "text".
        value: Name of the slot, phrase or connector, or the text.
        optional: Whether a view without it is still valid.
    """

    kind: str
    value: str
    optional: bool = False


@dataclass(frozen=True)
class Template:
    """Parts that together describe a place; ``weight`` is the frequency in queries, relative to other templates."""

    kind: str
    parts: tuple[TemplatePart, ...]
    weight: float = 1.0
    swap: bool = False


@dataclass(frozen=True)
class PartSuffixes:
    """Suffixes of the synthetic parts of a kind (buildings, gates, car parks); pairs have the kind ``sub_<kind>``.

    Compounds whose category ("landuse=residential") matches ``of`` have such parts, unless their name matches
    ``unless``. ``row`` and ``typed`` are the suffixes in POI rows and in queries, with ``{n}`` for a number and ``{b}``
    for a bearing word. ``times`` is the number of parts of a compound.
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
    """The words of a category: ``words`` in a POI table, coarse to fine; ``typed`` in queries.

    ``specific`` is False if the words come from a ``key=*`` entry: such words are too general for a query.
    """

    words: tuple[str, ...]
    typed: tuple[str, ...]
    specific: bool = True


class Locale:
    """The wordings of a language; attributes are named like the YAML keys (see ``locales/neutral.yaml``)."""

    def __init__(self, name: str, data: dict[str, Any], where: str) -> None:
        self.name = name
        read = CheckedMapping(data, where)
        read.check_keys(_KEYS)
        self.language = read.text("language")
        self.join = read.text("join", " ")
        self.full_join = read.text("full_join", ",")
        self.metres_step = read.integer("metres_step", 10, 1, 1000)
        self.metres = read.number_wording("metres", "{} m")
        self.number = read.number_wording("number", "{}")
        self.sub_name = read.wordings("sub_name", read.texts("sub_name", ["{area} {sub}"]), _GENERIC_NAME_VALUES)
        connectors = read.mapping("connectors")
        self.connectors = {k: connectors.nonempty_texts(k) for k in connectors}
        self.phrases: dict[str, list[tuple[TemplatePart, ...]]] = {}
        phrases = read.mapping("phrases")
        for phrase in phrases:
            if phrase in SLOTS:
                raise phrases.error(phrase, f"{phrase!r} is a slot", "Give the phrase another name.")
            self.phrases[phrase] = [self._parts(phrases, phrase, way) for way in phrases.nonempty_texts(phrase)]
        self.full = self._parts(read, "full", read.text("full", "name"))
        views = read.mapping("views")
        templates = [self._template(views, kind) for kind in views if views.has_value(kind)]
        self.views = [template for template in templates if template.weight > 0]
        self.bearings, self.bearing_forms = _bearings(read)
        self.apart = _apart(read.mapping("apart"))
        self.sides = read.wordings("sides", read.texts("sides", ["{}"]), ("",))
        self.admin = _admin_levels(read.mapping("admin"))
        self.settlements = frozenset(read.texts("settlements"))
        self.categories, self.by_name = _categories(read.mapping("categories"))
        self._by_words: dict[tuple[str, ...], tuple[str, str]] = {}
        for entry, category in self.categories.items():
            key, _, value = entry.partition("=")
            if value:  # "address=" is the category of places without a name
                self._by_words.setdefault(category.words, (key, "yes" if value == "*" else value))
        self.fallback = read.wordings("fallback", [read.text("fallback", "{value}")], ("key", "value"))[0]
        parts = read.mapping("parts")
        self.parts = {_tag(parts, k): parts.wordings(k, parts.texts(k), _PART_VALUES) for k in parts}
        suffixes = read.mapping("suffixes")
        self.suffixes = [_suffixes(suffixes, kind) for kind in suffixes if suffixes.has_value(kind)]
        self.generic_name = _generic_name(read)
        self.drop = read.patterns("drop")
        self.variants = read.groups("variants")
        self.slips = read.number("slips", 0.12, most=1)
        self.shorten = read.number("shorten", 0.0, most=1)
        self.numerals = read.text("numerals")

    def category(self, key: str, value: str, name: str = "") -> Category:
        """Return the words of the first matching entry: by name, by tag, by ``key=*``, else ``fallback``."""
        for pattern, category in self.by_name.get(f"{key}={value}", ()):
            if pattern.search(name):
                return category
        if f"{key}={value}" in self.categories:
            return self.categories[f"{key}={value}"]
        if f"{key}=*" in self.categories:
            return replace(self.categories[f"{key}=*"], specific=False)
        word = self.fallback.format(key=key.replace("_", " "), value=value.partition(";")[0].replace("_", " "))
        return Category((word,), (word,), value != "yes") if word else Category((), (), False)

    def category_of(self, words: Sequence[str]) -> tuple[str, str] | None:
        """Return the tag of the longest prefix of these category words, the reverse of ``category``; None for no match.

        The value of a ``key=*`` entry is "yes".
        """
        tags = (self._by_words.get(tuple(words[:end])) for end in range(len(words), 0, -1))
        return next((tag for tag in tags if tag is not None), None)

    def bearing(self, degrees: float) -> str:
        """Return the word for a compass bearing in degrees (0 north, 90 east)."""
        return self.bearings[_octant(degrees)]

    def bearing_words(self, degrees: float) -> tuple[str, ...]:
        """Return the wordings of a compass bearing, the word alone first ("东", "东侧", "以东" ...)."""
        step = _octant(degrees)
        return tuple(form.format(self.bearings[step]) for form in self.bearing_forms[step % 2])

    def side_words(self, degrees: float) -> tuple[str, ...]:
        """Return the wordings of a side of a street."""
        return tuple(side.format(self.bearing(degrees)) for side in self.sides)

    def clashes(self, before: str, after: str) -> bool:
        """Return whether the border between two adjacent texts is ambiguous ("拉面", "向南": "面向" is a word)."""
        ends, begins = self.apart
        return before[-1:] in ends and after[:1] in begins

    def kinds(self) -> set[str]:
        """Return the kinds of its views and of its synthetic parts."""
        return {template.kind for template in self.views} | {f"sub_{s.kind}" for s in self.suffixes}

    def uses_slot(self, slot: str) -> bool:
        """Return whether a view has this slot."""
        return any(part.value == slot for template in self.views for part in template.parts)

    def part_names(self, category: tuple[str, str], values: dict[str, str]) -> tuple[str, ...]:
        """Return the names of an unnamed part of a compound with this OSM key and value; the first is for POI rows.

        A wording is skipped if one of its values (area, bearing word, ref) is empty.
        """
        key, value = category
        wordings = self.parts.get(f"{key}={value}", self.parts.get(f"{key}=*", ()))
        return tuple(w.format_map(values) for w in wordings if all(values.get(s) for s in _BRACES.findall(w)))

    def is_generic(self, name: str) -> bool:
        """Return whether a name alone identifies no place (north gate, building 3, car park)."""
        return self.generic_name is not None and self.generic_name.fullmatch(name.strip()) is not None

    def _template(self, views: CheckedMapping, kind: str) -> Template:
        _check_kind(views, kind)
        data = views.data[kind]
        view = CheckedMapping(data if isinstance(data, dict) else {"parts": data}, views.where, f"{views.at}{kind}.")
        view.check_keys(("parts", "weight", "swap"), ("parts",))
        parts = self._parts(view, "parts", view.text("parts"))
        return Template(kind, parts, view.number("weight", 1.0), view.boolean("swap"))

    def _parts(self, read: CheckedMapping, key: str, text: str) -> tuple[TemplatePart, ...]:
        if not text.strip():
            raise read.error(key, "expected parts with spaces between, got an empty text")
        return tuple(self._part(read, key, item) for item in text.split())

    def _part(self, read: CheckedMapping, key: str, item: str) -> TemplatePart:
        if item.startswith("="):
            return TemplatePart("text", item[1:])
        if item.startswith("@"):
            if item[1:] not in self.connectors:
                raise read.error(key, f"no such connector {item!r}", "Add it under connectors.")
            return TemplatePart("connector", item[1:])
        slot = item.removesuffix("?")
        if slot not in SLOTS and slot not in self.phrases:
            hint = f"Slots: {', '.join(sorted(SLOTS))}. Define a phrase above the phrases that use it."
            raise read.error(key, f"no such slot {slot!r}", hint)
        return TemplatePart("slot", slot, item.endswith("?"))


def _octant(degrees: float) -> int:
    """Return the number of a compass bearing: 0 for north, 1 for north-east, ..."""
    return int((degrees % 360.0 + 22.5) // 45.0) % 8


def _check_kind(read: CheckedMapping, kind: str) -> None:
    """Reject characters that have a meaning in ``--without`` patterns or in "kind@language"."""
    if not kind.replace("_", "").isalnum() or kind == POI_KIND:
        hint = "Use letters, digits and _; poi is reserved."
        raise read.error(kind, f"{kind!r} is not a valid name of a kind of view", hint)


def _tag(read: CheckedMapping, entry: str) -> str:
    """Return a key such as "amenity=cafe" or "amenity=*"; reject other keys."""
    if "=" not in entry:
        raise read.error(entry, f"{entry!r} is not a tag", "Write key=value or key=*.")
    return entry


def _suffixes(suffixes: CheckedMapping, kind: str) -> PartSuffixes:
    _check_kind(suffixes, kind)
    read = suffixes.mapping(kind)
    read.check_keys(("of", "unless", "row", "typed", "words", "times"), ("of", "row", "typed"))
    row, typed = (read.wordings(key, read.nonempty_texts(key), ("n", "b")) for key in ("row", "typed"))
    of = read.pattern("of", read.text("of"))
    unless = read.pattern("unless", read.text("unless")) if read.has_value("unless") else None
    return PartSuffixes(kind, of, unless, row, typed, read.text("words"), read.integer("times", 1, 1, 20))


def _bearings(read: CheckedMapping) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return the eight words, and the wordings of straight (N, E, S, W) and of diagonal bearings."""
    words, forms, names = read.mapping("bearings"), read.mapping("bearing_forms"), ("straight", "diagonal")
    words.check_keys(BEARINGS, BEARINGS)
    forms.check_keys(names)
    wordings = (forms.wordings(k, forms.nonempty_texts(k) if k in forms else ["{}"], ("",)) for k in names)
    return tuple(words.text(b) for b in BEARINGS), tuple(wordings)


def _apart(read: CheckedMapping) -> tuple[frozenset[str], frozenset[str]]:
    """Return two sets of letters: a text that ends with one of the first never precedes one of the second."""
    read.check_keys(("ends", "begins"), ("ends", "begins") if read.data else ())
    return frozenset(read.text("ends")), frozenset(read.text("begins"))


def _admin_levels(read: CheckedMapping) -> dict[str, list[int]]:
    read.check_keys(("district", "city"))
    for kind in read:
        value = read.data[kind]
        if not isinstance(value, list) or not all(type(n) is int for n in value):
            hint = "Write admin: {district: [9, 10], city: [8]}: values of admin_level, in order of preference."
            raise read.error(kind, f"expected admin levels, got {value!r}", hint)
    return {kind: list(read.data[kind]) for kind in read}


ByName = dict[str, list[tuple[re.Pattern[str], Category]]]


def _categories(read: CheckedMapping) -> tuple[dict[str, Category], ByName]:
    """Return the words of entries "key=value" by tag, and of entries "key=value ~ expression" by tag and expression."""
    by_tag: dict[str, Category] = {}
    by_name: ByName = {}
    for entry in read:
        tag, named, expression = (part.strip() for part in _tag(read, entry).partition(" ~ "))
        category = _category(read.text(entry))
        if named:
            by_name.setdefault(tag, []).append((read.pattern(entry, expression), category))
        else:
            by_tag[tag] = category
    return by_tag, by_name


def _generic_name(read: CheckedMapping) -> re.Pattern[str] | None:
    """Return the pattern of generic names: gates, car parks, numbered buildings."""
    # Each expression is compiled alone first: an error then shows which one is invalid.
    patterns = [read.pattern("sub", f"(?:{text})", re.IGNORECASE).pattern for text in read.texts("sub")]
    return read.pattern("sub", "|".join(patterns), re.IGNORECASE) if patterns else None


def load_locale(name: str) -> Locale:
    """Load a bundled locale by name, or a YAML file by its path.

    Raises:
        InputError: No such locale, broken YAML, or unknown keys or slots.
    """
    data, where = _load(name)
    return Locale(Path(name).stem, data, where)


def _load(name: str, depth: int = 0) -> tuple[dict[str, Any], str]:
    if name in BUNDLED:
        where = f"locales/{name}.yaml"
        text = resources.files("m3gal_cli.osm").joinpath("locales", f"{name}.yaml").read_text("utf-8")
    elif name.endswith((".yaml", ".yml")):
        where = name
        text = _read_text(Path(name))
    else:
        hint = f"Use auto, {', '.join(BUNDLED)}, or the path of a .yaml file."
        raise InputError(f"no such locale {name!r}", hint=hint)
    data = parse_yaml(text, where)
    if not isinstance(data, dict):
        raise InputError("expected a mapping", where=where)
    base = data.pop("extends", None)
    if base is None:
        return data, where
    if depth > 4:
        hint = "Remove one of the keys extends."
        raise InputError("the locale extends itself", where=f"{where}: extends", hint=hint)
    return _merge(_load_base(str(base), where, depth), data), where


def _read_text(path: Path) -> str:
    try:
        return require_file(path, "locale file").read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"is not UTF-8 ({error.reason})", where=path, hint="Save the locale file as UTF-8.") from error


def _load_base(base: str, where: str, depth: int) -> dict[str, Any]:
    """Load the locale that the file ``where`` extends; a path is relative to that file."""
    if base in BUNDLED:
        return _load(base, depth + 1)[0]
    path = Path(where).parent / base
    if path.suffix not in (".yaml", ".yml") or not path.exists():
        hint = f"Extend {', '.join(BUNDLED)}, or a .yaml file by its path relative to this file."
        raise InputError(f"no such locale {base!r}", where=f"{where}: extends", hint=hint)
    return _load(str(path), depth + 1)[0]


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return ``base`` updated by ``own``: mappings are merged one level deep, other values are replaced."""
    out = dict(base)
    for key, value in own.items():
        old = out.get(key)
        out[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _category(text: str) -> Category:
    """Parse "coarse, fine | typed, typed"; without a bar the finest word is typed."""
    words, _, typed = text.partition("|")
    first = tuple(w.strip() for w in words.split(",") if w.strip())
    second = tuple(w.strip() for w in typed.split(",") if w.strip())
    return Category(first, second or first[-1:])
