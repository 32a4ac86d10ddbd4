"""Views: several descriptions of one place, rendered from the templates of a locale, and pairs of them.

A view names more than a category or a district. ``uniqueness`` finds the views that other places have, too.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from m3gal_cli.osm.locales import POI_KIND, Locale, PartSuffixes, Template, TemplatePart
from m3gal_cli.text.normalise import reading_key

_IDENTIFYING = frozenset({"name", "plain", "rest", "brand", "alt", "number", "told"})  # a view has one or a *_word
_WITHOUT_KEY = ("_bearing", "_metres", "side")  # suffixes of slots that do not distinguish two views
_COMMAS = re.compile(r"\s*,(?:\s*,)*\s*")
_LAST_BRACKET = re.compile(r"[(（][^()（）]*[)）]$")
_NO_LETTERS = re.compile(r"\W+")
_EDGES = " \t\n,，;/"

Slots = Mapping[str, tuple[str, ...]]  # slot -> its wordings; POI rows use the first
PreparedSlots = Mapping[str, tuple[tuple[str, ...], str]]  # slot -> its wordings and the reading key of the first
Choice = Callable[[Sequence[str]], str]  # chooses a wording


def first_text(slots: Slots, name: str) -> str:
    """Return the first wording of a slot, "" if it is missing."""
    return next(iter(slots.get(name, ())), "")


class ViewPart(NamedTuple):
    """A part of a view.

    Attributes:
        slot: Its slot or phrase; "" for connectors and literal text.
        text: The text.
        key: The reading key, which decides whether two views have equal content; "" to ignore the part.
        optional: Whether noise can drop it.
    """

    slot: str
    text: str
    key: str
    optional: bool = False


class View(NamedTuple):
    """One description of a place.

    Attributes:
        kind: Kind of the template, followed by "@" and the language if that is not the language of the map.
        join: Text between the parts.
        text: The whole text.
        content: Sorted reading keys of the parts.
        weight: Frequency in queries, relative to other views.
        swap: Whether noise can swap the first and the last part.
    """

    kind: str
    parts: tuple[ViewPart, ...]
    join: str
    text: str
    content: tuple[str, ...]
    weight: float = 1.0
    swap: bool = False

    @classmethod
    def of(cls, kind: str, parts: Sequence[ViewPart], join: str, weight: float = 1.0, swap: bool = False) -> View:
        """Make a view of these parts."""
        text = join_texts([p.text for p in parts], join)
        return cls(kind, tuple(parts), join, text, tuple(sorted([p.key for p in parts if p.key])), weight, swap)


class WordingChooser:
    """Chooses wordings at random by ANSI C's rand; seeding ``random.Random`` for every view takes much longer."""

    def __init__(self, seed: str) -> None:
        self._state = zlib.crc32(seed.encode())

    def __call__(self, wordings: Sequence[str]) -> str:
        """Choose one of the wordings."""
        if len(wordings) == 1:
            return wordings[0]
        self._state = (self._state * 1103515245 + 12345) & 0x7FFFFFFF
        return wordings[(self._state >> 12) % len(wordings)]


def first_wording(wordings: Sequence[str]) -> str:
    """Choose the first wording, which POI rows use."""
    return wordings[0]


def join_texts(texts: Sequence[str], join: str) -> str:
    """Join texts and correct the spaces around commas and brackets; without a space in ``join`` there are none."""
    text = join.join([t for t in texts if t])
    if "," in text:
        text = _COMMAS.sub(", " if " " in join else ",", text)
    if "(" in text and " " in join:
        text = text.replace("( ", "(").replace(" )", ")")
    return text.strip(_EDGES)


class ViewRenderer:
    """Renders views in a locale, with names in a language ("" for the language of the map); ``scale`` is a weight."""

    def __init__(self, locale: Locale, language: str = "", scale: float = 1.0) -> None:
        self.locale, self.language, self.scale = locale, language, scale
        self._needed = {
            t.kind: {p.value for p in t.parts if p.kind == "slot" and not p.optional and p.value not in locale.phrases}
            for t in locale.views
        }

    def kind_of(self, template: Template) -> str:
        """Return the kind of the views of a template; see ``View``."""
        return f"{template.kind}@{self.language}" if self.language else template.kind

    def prepare(self, slots: Slots) -> PreparedSlots:
        """Prepare the slots of a place, once for all of its views."""
        return {n: (values, "" if n.endswith(_WITHOUT_KEY) else reading_key(values[0])) for n, values in slots.items()}

    def poi_row(self, slots: PreparedSlots) -> View | None:
        """Render the POI row, with the first wording of every slot; None if its text is empty."""
        parts = self._parts(self.locale.full, slots, first_wording)
        view = View.of(POI_KIND, parts, self.locale.full_join, 0.0) if parts is not None else None
        return view if view is not None and view.text else None

    def view(self, template: Template, slots: PreparedSlots, choose: Choice) -> View | None:
        """Render the view of a template; None if the place lacks a slot that it needs."""
        if not self._needed[template.kind] <= slots.keys():
            return None
        parts = self._parts(template.parts, slots, choose)
        if parts is None or not any(p.slot in _IDENTIFYING or p.slot.endswith("_word") for p in parts):
            return None
        return View.of(self.kind_of(template), parts, self.locale.join, template.weight * self.scale, template.swap)

    def _parts(self, template: Sequence[TemplatePart], slots: PreparedSlots, choose: Choice) -> list[ViewPart] | None:
        """Render parts; None if a part that is not optional is missing or repeats another."""
        out: list[ViewPart] = []
        row = choose is first_wording
        for part in template:
            if part.kind == "text":
                out.append(ViewPart("", part.value, ""))
            elif part.kind == "connector":
                out.append(ViewPart("", choose(self.locale.connectors[part.value]), ""))
            else:
                rendered = self._slot(part, slots, choose, "" if row or not out else out[-1].text)
                if rendered is not None and not (rendered.key and _is_repetition(rendered, out, row)):
                    out.append(rendered)
                elif not part.optional:
                    return None
        return out

    def _slot(self, part: TemplatePart, slots: PreparedSlots, choose: Choice, before: str) -> ViewPart | None:
        """Render a slot or phrase with a wording that can follow the text ``before``; None without one."""
        name, may_clash = part.value, before[-1:] in self.locale.apart[0]
        known = slots.get(name)
        if known is not None:
            values, key = known
            if may_clash:
                values = tuple(v for v in values if not self.locale.clashes(before, v))
            return ViewPart(name, choose(values), key, part.optional) if values else None
        for phrase in self.locale.phrases.get(name, ()):
            inner = self._parts(phrase, slots, choose)
            if inner is not None:
                text = join_texts([p.text for p in inner], self.locale.join)
                if not (may_clash and self.locale.clashes(before, text)):
                    return ViewPart(name, text, "".join(sorted([p.key for p in inner])), part.optional)
        return None


def _is_repetition(part: ViewPart, before: list[ViewPart], row: bool) -> bool:
    """Return whether a part repeats an earlier one: one key contains the other. POI rows repeat only whole words."""
    if part.slot == "number":
        return False
    key = part.key
    for other in before:
        if row:
            if other.key == key or (part.slot == "words" and _whole_words(part) in _whole_words(other)):
                return True
        elif other.key and other.slot != "number" and (key in other.key or other.key in key):
            return True
    return False


def _whole_words(part: ViewPart) -> str:
    """Return the words in lower case with a space around each, so that a search finds whole words only."""
    return f" {_NO_LETTERS.sub(' ', part.text.casefold()).strip()} "


def make_pairs(row: View | None, views: Iterable[View], most: int) -> Iterator[tuple[View, View]]:
    """Yield up to ``most`` pairs: each view with the POI row, else with the view before it.

    A pair needs different reading keys, neither a prefix of the other. No more views are consumed than needed.
    """
    made, before = 0, None
    for view in views:
        for other in (row, before):
            if other is not None and differ(reading_key(view.text), reading_key(other.text)):
                yield view, other
                made += 1
                break
        if made >= most:
            return
        before = view


def differ(one: str, other: str) -> bool:
    """Return whether neither of two reading keys begins with the other."""
    return not (one.startswith(other) or other.startswith(one))


class PartPair(NamedTuple):
    """A view and a POI row of a synthetic part; the label distinguishes the parts of a compound."""

    label: str
    view: View
    row: View


def make_part_pair(
    view: View, row: View, suffixes: PartSuffixes, bearings: Sequence[str], rng: random.Random
) -> PartPair:
    """Draw a synthetic part (building 3, east gate, car park) of a compound with this view and this POI row.

    View and row get a suffix after the name; both suffixes mean the same part. ``bearings`` are the values of ``{b}``.
    """
    number, bearing = str(rng.randint(1, 30)), rng.choice(bearings)
    label = f"{suffixes.kind} {number}" if any("{n}" in w for w in suffixes.row) else suffixes.kind
    label = f"{label} {bearing}" if any("{b}" in w for w in suffixes.row) else label
    typed, written = (rng.choice(w).format(n=number, b=bearing) for w in (suffixes.typed, suffixes.row))
    kind = f"sub_{suffixes.kind}"
    return PartPair(label, _with_suffix(view, kind, typed, ""), _with_suffix(row, POI_KIND, written, suffixes.words))


def _with_suffix(view: View, kind: str, suffix: str, words: str) -> View:
    parts = []
    for part in view.parts:
        text = part.text
        if part.slot == "name":
            text = _LAST_BRACKET.sub("", text) + suffix
        elif part.slot == "words" and words:
            text = words
        parts.append(part._replace(text=text))
    return View.of(kind, parts, view.join, view.weight, view.swap)


def weighted_order(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Return the indices in a random order, drawn without replacement by weight (Efraimidis and Spirakis 2006)."""
    drawn = [rng.random() ** (1.0 / max(w, 1e-9)) for w in weights]
    return sorted(range(len(weights)), key=lambda n: -drawn[n])
