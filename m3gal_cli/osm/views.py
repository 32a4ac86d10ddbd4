"""Views: several descriptions of one place, made from a locale's templates, and pairs of them.

A view never names only a category or a district. Whether it fits another place as well is not known here: see
``census``.
"""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from m3gal_cli.osm.locales import FULL, Locale, Part, Suffixes, Template

Fields = Mapping[str, tuple[str, ...]]

_TELLS = frozenset(
    {"name", "plain", "rest", "brand", "alt", "number", "told"}
)  # one of these, or a *_word, must be there
_TURNS = ("_bearing", "_metres", "side")  # fields by which alone no place is told
_COMMAS = re.compile(r"\s*,(?:\s*,)*\s*")
_LAST_BRACKET = re.compile(r"[(（][^()（）]*[)）]$")
_NO_LETTERS = re.compile(r"\W+")
_EDGES = " \t\n,，;/"


class Reading(Protocol):
    """Turns a text into what it reads as: equal results cannot be told apart."""

    def __call__(self, text: str) -> str: ...


class Piece(NamedTuple):
    """A part of a view as text.

    Attributes:
        field: The field or phrase it comes from, "" for connectors and plain text.
        text: As written.
        key: As it reads, for telling whether two views say the same; "" where it does not matter.
        optional: Whether the view still means the place without it.
    """

    field: str
    text: str
    key: str
    optional: bool = False


class View(NamedTuple):
    """One description of a place.

    Attributes:
        kind: The template that made it, with "@" and the language where that is not the map's.
        pieces: Its parts.
        join: What stands between them.
        text: As written.
        key: What it says, in no order: the readings of its fields.
        weight: How often, relative to the others, people type so.
        swap: Whether its first and last part may change places.
    """

    kind: str
    pieces: tuple[Piece, ...]
    join: str
    text: str
    key: tuple[str, ...]
    weight: float = 1.0
    swap: bool = False

    @classmethod
    def of(cls, kind: str, pieces: Sequence[Piece], join: str, weight: float = 1.0, swap: bool = False) -> View:
        """A view of these pieces."""
        text = joined([p.text for p in pieces], join)
        return cls(kind, tuple(pieces), join, text, tuple(sorted([p.key for p in pieces if p.key])), weight, swap)


class Picker:
    """Draws wordings; a few times as fast as ``random.Random``, which has to be seeded for every view of a country.

    Equal seeds give equal draws (the generator of ANSI C's rand).
    """

    def __init__(self, seed: str) -> None:
        self._state = zlib.crc32(seed.encode())

    def __call__(self, words: Sequence[str]) -> str:
        if len(words) == 1:
            return words[0]
        self._state = (self._state * 1103515245 + 12345) & 0x7FFFFFFF
        return words[(self._state >> 12) % len(words)]


def plainest(words: Sequence[str]) -> str:
    """The first wording, as POI rows have it."""
    return words[0]


class Suffixed(NamedTuple):
    """A made-up part of a compound: what it is called among the compound's parts, a view and a POI row of it."""

    part: str
    view: View
    full: View


def joined(texts: Sequence[str], join: str) -> str:
    """Texts in a row, with commas put right: "a , b" becomes "a, b" (or "a,b" where nothing stands between words)."""
    text = join.join([t for t in texts if t])
    if "," in text:
        text = _COMMAS.sub(", " if " " in join else ",", text)
    if "(" in text and " " in join:
        text = text.replace("( ", "(").replace(" )", ")")
    return text.strip(_EDGES)


Ready = Mapping[str, tuple[tuple[str, ...], str]]  # field -> wordings and how the plainest of them reads
Pick = Callable[[Sequence[str]], str]


class ViewMaker:
    """Makes views of places in one locale."""

    def __init__(self, locale: Locale, reads: Reading, label: str = "", scale: float = 1.0) -> None:
        self.locale = locale
        self.reads = reads
        self.label = label
        self.scale = scale
        self._needed = {t.kind: _needed(t, locale) for t in locale.views}

    def kind_of(self, template: Template) -> str:
        """The kind of a template's views, with the language where it is not the map's."""
        return f"{template.kind}@{self.label}" if self.label else template.kind

    def ready(self, fields: Fields) -> Ready:
        """The fields of a place as ``full`` and ``view`` take them; made once for all of its views."""
        reads = self.reads
        return {n: (values, "" if n.endswith(_TURNS) else reads(values[0])) for n, values in fields.items()}

    def full(self, ready: Ready) -> View | None:
        """The POI row's own description: the plainest form of every field; None without a text."""
        pieces = self._pieces(self.locale.full, ready, plainest)
        if pieces is None:
            return None
        view = View.of(FULL, pieces, self.locale.full_join, 0.0)
        return view if view.text else None

    def view(self, template: Template, ready: Ready, pick: Pick) -> View | None:
        """The view that a template gives of a place, None where the place lacks a field; ``pick`` draws wordings."""
        if not self._needed[template.kind] <= ready.keys():
            return None
        pieces = self._pieces(template.parts, ready, pick)
        if pieces is None or not any(p.field in _TELLS or p.field.endswith("_word") for p in pieces):
            return None
        return View.of(self.kind_of(template), pieces, self.locale.join, template.weight * self.scale, template.swap)

    def _pieces(self, parts: Sequence[Part], ready: Ready, pick: Pick) -> list[Piece] | None:
        """The parts as text; None if one that is needed is missing or says what another one says already."""
        out: list[Piece] = []
        whole = pick is plainest
        for part in parts:
            if part.kind == "text":
                out.append(Piece("", part.value, ""))
            elif part.kind == "connector":
                out.append(Piece("", pick(self.locale.connectors[part.value]), ""))
            else:
                piece = self._field(part, ready, pick, "" if whole or not out else out[-1].text)
                if piece is not None and not (piece.key and _said(piece, out, whole)):
                    out.append(piece)
                elif not part.optional:
                    return None
        return out

    def _field(self, part: Part, ready: Ready, pick: Pick, before: str) -> Piece | None:
        """A field or phrase in a wording that may stand behind the text ``before``; None if it has none."""
        name, ends = part.value, before[-1:] in self.locale.apart[0]
        known = ready.get(name)
        if known is not None:
            values, key = known
            if ends:
                values = tuple(v for v in values if not self.locale.clash(before, v))
            return Piece(name, pick(values), key, part.optional) if values else None
        for phrase in self.locale.phrases.get(name, ()):
            inner = self._pieces(phrase, ready, pick)
            if inner is not None:
                text = joined([p.text for p in inner], self.locale.join)
                if not (ends and self.locale.clash(before, text)):
                    return Piece(name, text, "".join(sorted([p.key for p in inner])), part.optional)
        return None


def _said(piece: Piece, before: list[Piece], whole: bool) -> bool:
    """Whether a piece repeats an earlier one; in a POI row (``whole``) only an equal one is a repetition, and category
    words that the name says already ("Palace Hotel, hotel")."""
    key = piece.key
    if piece.field == "number":
        return False
    for other in before:
        if whole:
            if other.key == key or (piece.field == "words" and _plain(piece) in _plain(other)):
                return True
        elif other.key and other.field != "number" and (key in other.key or other.key in key):
            return True
    return False


def _plain(piece: Piece) -> str:
    """The words of a piece in small letters, a space around each: what is looked for in it is found as whole words."""
    return f" {_NO_LETTERS.sub(' ', piece.text.casefold()).strip()} "


def _needed(template: Template, locale: Locale) -> set[str]:
    """The fields without which a template gives nothing; phrases know other ways."""
    fields = (p for p in template.parts if p.kind == "field" and not p.optional)
    return {p.value for p in fields if p.value not in locale.phrases}


def make_pairs(full: View | None, order: Iterable[View], most: int, reads: Reading) -> Iterator[tuple[View, View]]:
    """Up to ``most`` pairs of two views of one place; they lead to the POI row where it says more than the view.

    Pairs whose sides read the same, or where one merely begins with the other, are left out.

    Args:
        full: The POI row.
        order: The other views, those to be taken first in front; no more of them are asked for than it takes.
        most: Pairs at most.
        reads: What a text reads as.
    """
    made, before = 0, None
    for view in order:
        for other in (full, before):
            if other is not None and differ(reads(view.text), reads(other.text)):
                yield view, other
                made += 1
                break
        if made >= most:
            return
        before = view


def suffix_pair(view: View, full: View, suffixes: Suffixes, bearings: Sequence[str], rng: random.Random) -> Suffixed:
    """A view and a POI row of a made-up part of a compound (building 3, east gate, car park): the compound's own, both
    with a suffix behind the name that means the same part.

    Args:
        view: A view of the compound that holds its name.
        full: Its POI row.
        suffixes: The wordings.
        bearings: What ``{b}`` may be.
        rng: Draws the part and its wordings.
    """
    number, bearing = str(rng.randint(1, 30)), rng.choice(bearings)
    part = f"{suffixes.kind} {number}" if any("{n}" in w for w in suffixes.row) else suffixes.kind
    part = f"{part} {bearing}" if any("{b}" in w for w in suffixes.row) else part
    one, two = (rng.choice(w).format(n=number, b=bearing) for w in (suffixes.typed, suffixes.row))
    kind = f"sub_{suffixes.kind}"
    return Suffixed(part, _with_suffix(view, kind, one, ""), _with_suffix(full, FULL, two, suffixes.words))


def _with_suffix(view: View, kind: str, suffix: str, words: str) -> View:
    pieces = []
    for piece in view.pieces:
        text = piece.text
        if piece.field == "name":
            text = _LAST_BRACKET.sub("", text) + suffix
        elif piece.field == "words" and words:
            text = words
        pieces.append(piece._replace(text=text))
    return View.of(kind, pieces, view.join, view.weight, view.swap)


def weighted_order(weights: Sequence[float], rng: random.Random) -> list[int]:
    """Numbers of the weights in a random order in which the heavier ones tend to come first."""
    drawn = [rng.random() ** (1.0 / max(w, 1e-9)) for w in weights]
    return sorted(range(len(weights)), key=lambda n: -drawn[n])


def differ(one: str, other: str) -> bool:
    """Whether two readings are different views: neither begins with the other."""
    return not (one.startswith(other) or other.startswith(one))
