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
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from m3gal_cli.errors import InputError
from m3gal_cli.files import require_file
from m3gal_cli.osm.locale_values import Values, parse

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
    "slips", "shorten", "numerals", "number", "fallback", "settlements", "apart",
}  # fmt: skip
FULL = "poi"  # the kind of the POI row's own text
PART_SLOTS = {"area", "bearing", "ref"}  # what the wording of a part of a compound may hold
_SUB_SLOTS = {"area", "landmark", "street", "sub", "bearing"}
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
        self.name = name
        self.where = where
        read = Values(data, where)
        read.only(_KEYS)
        self.language = read.text("language")
        self.join = read.text("join", " ")
        self.full_join = read.text("full_join", ",")
        self.metres_step = read.whole("metres_step", 10, 1, 1000)
        self.metres = read.wording("metres", "{} m")
        self.number = read.wording("number", "{}")
        self.sub_name = read.slots("sub_name", read.words("sub_name", ["{area} {sub}"]), _SUB_SLOTS)
        connectors = read.inside("connectors")
        self.connectors = {k: connectors.some(k) for k in connectors}
        self.phrases: dict[str, list[tuple[Part, ...]]] = {}
        phrases = read.inside("phrases")
        for phrase in phrases:
            if phrase in FIELDS:
                raise phrases.bad(phrase, f"{phrase!r} is a field", "Give the phrase a name of its own.")
            self.phrases[phrase] = [self._parts(phrases, phrase, way) for way in phrases.some(phrase)]
        self.full = self._parts(read, "full", read.text("full", "name"))
        views = read.inside("views")
        every = [self._view(views, kind) for kind in views if views.given(kind)]
        self.views = [template for template in every if template.weight > 0]
        self.bearings, self.bearing_forms = _bearings(read)
        self.apart = _apart(read.inside("apart"))
        self.sides = read.slots("sides", read.words("sides", ["{}"]), ("",))
        self.admin = _levels(read.inside("admin"))
        self.settlements = frozenset(read.words("settlements"))
        self.categories, self.by_name = _categories(read.inside("categories"))
        self._by_words: dict[tuple[str, ...], tuple[str, str]] = {}
        for entry, category in self.categories.items():
            key, _, value = entry.partition("=")
            if value:  # "address=" is for what has no name
                self._by_words.setdefault(category.words, (key, "yes" if value == "*" else value))
        self.fallback = read.slots("fallback", [read.text("fallback", "{value}")], ("key", "value"))[0]
        parts = read.inside("parts")
        self.parts = {_tag(parts, k): parts.slots(k, parts.words(k), PART_SLOTS) for k in parts}
        suffixes = read.inside("suffixes")
        self.suffixes = [_suffixes(suffixes, kind) for kind in suffixes if suffixes.given(kind)]
        self.sub_pattern = _sub_pattern(read)
        self.drop = read.patterns("drop")
        self.variants = read.groups("variants")
        self.slips = read.number("slips", 0.12, most=1)
        self.shorten = read.number("shorten", 0.0, most=1)
        self.numerals = read.text("numerals")

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

    def category_of(self, words: Sequence[str]) -> tuple[str, str] | None:
        """The tag of which a POI row with these words says the most: the reverse of ``category``.

        That is the first entry whose words are the longest beginning of these, its value "yes" for a ``key=*``; None
        where no entry's are.
        """
        for end in range(len(words), 0, -1):
            tag = self._by_words.get(tuple(words[:end]))
            if tag is not None:
                return tag
        return None

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

    def clash(self, before: str, after: str) -> bool:
        """Whether two parts, one right behind the other, would read two ways ("拉面" and "向南")."""
        ends, begins = self.apart
        return before[-1:] in ends and after[:1] in begins

    def kinds(self) -> set[str]:
        """The kinds of its views and of its made-up parts of compounds."""
        return {template.kind for template in self.views} | {f"sub_{s.kind}" for s in self.suffixes}

    def tells(self, field: str) -> bool:
        """Whether some view says this field."""
        return any(part.value == field for template in self.views for part in template.parts)

    def part_names(self, category: tuple[str, str], values: dict[str, str]) -> tuple[str, ...]:
        """Names of a part of a compound that has none of its own, the plainest first; () where it cannot be told.

        Args:
            category: OSM key and value of the part.
            values: area, bearing (a word) and ref; a wording that needs an empty one is passed over.
        """
        key, value = category
        wordings = self.parts.get(f"{key}={value}", self.parts.get(f"{key}=*", ()))
        return tuple(w.format_map(values) for w in wordings if all(values.get(s) for s in _SLOT.findall(w)))

    def is_sub(self, name: str) -> bool:
        """Whether ``name`` says nothing without the place that it belongs to (north gate, building 3, car park)."""
        return self.sub_pattern is not None and self.sub_pattern.fullmatch(name.strip()) is not None

    def _view(self, views: Values, kind: str) -> Template:
        _check_kind(views, kind)
        data = views.data[kind]
        view = Values(data if isinstance(data, dict) else {"parts": data}, views.where, f"{views.at}{kind}.")
        view.only(("parts", "weight", "swap"), ("parts",))
        parts = self._parts(view, "parts", view.text("parts"))
        return Template(kind, parts, view.number("weight", 1.0), view.truth("swap"))

    def _parts(self, read: Values, key: str, text: str) -> tuple[Part, ...]:
        if not text.strip():
            raise read.bad(key, "expected parts with spaces between, got nothing")
        return tuple(self._part(read, key, item) for item in text.split())

    def _part(self, read: Values, key: str, item: str) -> Part:
        if item.startswith("="):
            return Part("text", item[1:])
        if item.startswith("@"):
            if item[1:] not in self.connectors:
                raise read.bad(key, f"no such connector {item!r}", "Add it under connectors.")
            return Part("connector", item[1:])
        field = item.removesuffix("?")
        if field not in FIELDS and field not in self.phrases:
            hint = f"Fields: {', '.join(sorted(FIELDS))}. A phrase must stand above the phrase that uses it."
            raise read.bad(key, f"no such field {field!r}", hint)
        return Part("field", field, item.endswith("?"))


def _check_kind(read: Values, kind: str) -> None:
    """Kinds stand in tables, in ``--without`` patterns, and before "@" and a language."""
    if not kind.replace("_", "").isalnum() or kind == FULL:
        raise read.bad(kind, f"{kind!r} is no name for a kind of view", "Use letters, digits and _, and not poi.")


def _tag(read: Values, entry: str) -> str:
    """The entry, if it begins with a tag ("amenity=cafe", "amenity=*")."""
    if "=" not in entry:
        raise read.bad(entry, f"{entry!r} is no tag", "Write key=value or key=*.")
    return entry


def _suffixes(suffixes: Values, kind: str) -> Suffixes:
    _check_kind(suffixes, kind)
    read = suffixes.inside(kind)
    read.only(("of", "unless", "row", "typed", "words", "times"), ("of", "row", "typed"))
    row, typed = (read.slots(key, read.some(key), ("n", "b")) for key in ("row", "typed"))
    of = read.pattern("of", read.text("of"))
    unless = read.pattern("unless", read.text("unless")) if read.given("unless") else None
    return Suffixes(kind, of, unless, row, typed, read.text("words"), read.whole("times", 1, 1, 20))


def _bearings(read: Values) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The eight words, and the forms that they take: of north, east, south, west, and of those between."""
    words, forms = read.inside("bearings"), read.inside("bearing_forms")
    words.only(BEARINGS, BEARINGS)
    forms.only(("straight", "diagonal"))
    every = {k: forms.slots(k, forms.some(k) if k in forms else ["{}"], ("",)) for k in ("straight", "diagonal")}
    return tuple(words.text(b) for b in BEARINGS), (every["straight"], every["diagonal"])


def _apart(read: Values) -> tuple[frozenset[str], frozenset[str]]:
    """The letters at the end of a part behind which none may begin with one of the second letters."""
    read.only(("ends", "begins"), ("ends", "begins") if read.data else ())
    return frozenset(read.text("ends")), frozenset(read.text("begins"))


def _levels(read: Values) -> dict[str, list[int]]:
    read.only(("district", "city"))
    for kind in read:
        value = read.data[kind]
        if not isinstance(value, list) or not all(type(n) is int for n in value):
            hint = "Write admin: {district: [9, 10], city: [8]}: values of admin_level, the first found counts."
            raise read.bad(kind, f"expected admin levels, got {value!r}", hint)
    return {kind: list(read.data[kind]) for kind in read}


ByName = dict[str, list[tuple[re.Pattern[str], Category]]]


def _categories(read: Values) -> tuple[dict[str, Category], ByName]:
    """The words by tag, and those of the entries "key=value ~ expression" by tag and expression."""
    plain: dict[str, Category] = {}
    by_name: ByName = {}
    for entry in read:
        tag, named, expression = (part.strip() for part in _tag(read, entry).partition(" ~ "))
        category = _category(read.text(entry))
        if named:
            by_name.setdefault(tag, []).append((read.pattern(entry, expression), category))
        else:
            plain[tag] = category
    return plain, by_name


def _sub_pattern(read: Values) -> re.Pattern[str] | None:
    """Matches names that many places share: gates, car parks, buildings by number."""
    # Each in its brackets first, so that the message shows the one that is wrong.
    ways = [read.pattern("sub", f"(?:{text})", re.IGNORECASE).pattern for text in read.words("sub")]
    return read.pattern("sub", "|".join(ways), re.IGNORECASE) if ways else None


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
        text = resources.files("m3gal_cli.osm").joinpath("locales", f"{name}.yaml").read_text("utf-8")
    elif name.endswith((".yaml", ".yml")):
        where = name
        text = _read_text(Path(name))
    else:
        hint = f"Use auto, {', '.join(BUNDLED)}, or the path of a .yaml file."
        raise InputError(f"no such locale {name!r}", hint=hint)
    data = parse(text, where)
    if not isinstance(data, dict):
        raise InputError("expected a mapping", where=where)
    base = data.pop("extends", None)
    if base is None:
        return data, where
    if depth > 4:
        raise InputError("locales extend each other in a circle", where=f"{where}: extends")
    return _merged(_below(str(base), where, depth), data), where


def _read_text(path: Path) -> str:
    try:
        return require_file(path, "locale file").read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the locale file ({error.reason})", where=path, hint="Is it UTF-8?") from error


def _below(base: str, where: str, depth: int) -> dict[str, Any]:
    """The locale that the file ``where`` extends; a path is taken from that file's folder."""
    if base in BUNDLED:
        return _load(base, depth + 1)[0]
    path = Path(where).parent / base
    if path.suffix not in (".yaml", ".yml") or not path.exists():
        hint = f"Extend {', '.join(BUNDLED)}, or a .yaml file by its path from this one."
        raise InputError(f"no such locale {base!r}", where=f"{where}: extends", hint=hint)
    return _load(str(path), depth + 1)[0]


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """``above`` over ``below``: mappings are merged one level deep, anything else is replaced."""
    out = dict(below)
    for key, value in above.items():
        old = out.get(key)
        out[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return out


def _category(text: str) -> Category:
    """``"coarse, fine | typed, typed"``; without a bar people type the finest word."""
    words, _, typed = text.partition("|")
    first = tuple(w.strip() for w in words.split(",") if w.strip())
    second = tuple(w.strip() for w in typed.split(",") if w.strip())
    return Category(first, second or first[-1:])
