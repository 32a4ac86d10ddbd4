"""Views: several descriptions of one place, made from a locale's templates, and pairs of them.

A view never names only a category or a district: it is dropped where its words, read without connectors and bearings,
fit another place as well.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from m3gal_cli.data.locales import Locale, Part, Template

Fields = Mapping[str, tuple[str, ...]]

FULL = "poi"  # the kind of the POI row's own text
_TELLS = frozenset(
    {"name", "plain", "rest", "brand", "alt", "number", "told"}
)  # one of these, or a *_word, must be there
_COMMAS = re.compile(r"\s*,(?:\s*,)*\s*")
_EDGES = re.compile(r"^[\s,，;/]+|[\s,，;/]+$")


class Reading(Protocol):
    """Turns a text into what it reads as: equal results cannot be told apart."""

    def __call__(self, text: str) -> str: ...


@dataclass(frozen=True)
class Piece:
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


@dataclass(frozen=True)
class View:
    """One description of a place."""

    kind: str
    pieces: tuple[Piece, ...]
    join: str
    weight: float = 1.0
    swap: bool = False

    @cached_property
    def text(self) -> str:
        return joined([p.text for p in self.pieces], self.join)

    @cached_property
    def key(self) -> tuple[str, ...]:
        """What the view says, in no order: the readings of its fields."""
        return tuple(sorted(p.key for p in self.pieces if p.key))


def joined(texts: Sequence[str], join: str) -> str:
    """Texts in a row, with commas put right: "a , b" becomes "a, b" (or "a,b" where nothing stands between words)."""
    text = join.join(t for t in texts if t)
    comma = ", " if " " in join else ","
    return _EDGES.sub("", _COMMAS.sub(comma, text))


class ViewMaker:
    """Makes views of places in one locale."""

    def __init__(self, locale: Locale, reads: Reading, label: str = "", scale: float = 1.0) -> None:
        self.locale = locale
        self.reads = reads
        self.label = label
        self.scale = scale

    def full(self, fields: Fields) -> View | None:
        """The POI row's own description: the plainest form of every field."""
        pieces = self._pieces(self.locale.full, fields, None)
        return None if pieces is None else View(FULL, pieces, self.locale.full_join, 0.0)

    def views(self, fields: Fields, rng: random.Random) -> list[View]:
        """A view for every template whose fields the place has; ``rng`` chooses among wordings."""
        found = []
        for template in self.locale.views:
            view = self._view(template, fields, rng)
            if view is not None:
                found.append(view)
        return found

    def _view(self, template: Template, fields: Fields, rng: random.Random) -> View | None:
        pieces = self._pieces(template.parts, fields, rng)
        if pieces is None:
            return None
        used = {p.field for p in pieces}
        if not (used & _TELLS or any(f.endswith("_word") for f in used)):
            return None
        kind = f"{template.kind}@{self.label}" if self.label else template.kind
        return View(kind, pieces, self.locale.join, template.weight * self.scale, template.swap)

    def _pieces(self, parts: Sequence[Part], fields: Fields, rng: random.Random | None) -> tuple[Piece, ...] | None:
        """The parts as text; None if one that is needed is missing or says what another one says already."""
        out: list[Piece] = []
        for part in parts:
            if part.kind == "text":
                out.append(Piece("", part.value, ""))
                continue
            if part.kind == "connector":
                words = self.locale.connectors[part.value]
                out.append(Piece("", rng.choice(words) if rng else words[0], ""))
                continue
            piece = self._field(part, fields, rng)
            if piece is not None and piece.key and self._said(piece, out, whole=rng is None):
                if not part.optional:
                    return None
                piece = None
            if piece is None:
                if not part.optional:
                    return None
                continue
            out.append(piece)
        return tuple(out)

    @staticmethod
    def _said(piece: Piece, before: list[Piece], whole: bool) -> bool:
        """Whether a piece repeats an earlier one; in a POI row (``whole``) only an equal one is a repetition."""
        if piece.field == "number":
            return False
        if whole:
            return any(p.key == piece.key for p in before)
        return any(p.key and p.field != "number" and (piece.key in p.key or p.key in piece.key) for p in before)

    def _field(self, part: Part, fields: Fields, rng: random.Random | None) -> Piece | None:
        name = part.value
        if name in self.locale.phrases:
            for phrase in self.locale.phrases[name]:
                inner = self._pieces(phrase, fields, rng)
                if inner is not None:
                    text = joined([p.text for p in inner], self.locale.join)
                    return Piece(name, text, "".join(sorted(p.key for p in inner)), part.optional)
            return None
        values = fields.get(name)
        if not values:
            return None
        matters = not name.endswith(("_bearing", "_metres", "side"))
        key = self.reads(values[0]) if matters else ""
        return Piece(name, rng.choice(values) if rng else values[0], key, part.optional)


def unambiguous(views: Sequence[Sequence[View]], reads: Reading) -> list[list[View]]:
    """Views that fit one place only, each text once a place.

    A view goes if its text reads like, or its key equals, a view of another place.

    Args:
        views: The views of every place, POI rows included; those are never dropped but count against others.
        reads: What a text reads as.
    """
    texts: dict[str, set[int]] = defaultdict(set)
    keys: dict[tuple[str, ...], set[int]] = defaultdict(set)
    readings = [[reads(v.text) for v in row] for row in views]
    for i, (row, said) in enumerate(zip(views, readings, strict=True)):
        for view, reading in zip(row, said, strict=True):
            texts[reading].add(i)
            keys[view.key].add(i)
    out = []
    for row, said in zip(views, readings, strict=True):
        kept: dict[str, View] = {}
        for view, reading in zip(row, said, strict=True):
            alone = len(texts[reading]) == 1 and len(keys[view.key]) == 1 and len(reading) > 1
            if view.kind == FULL or (alone and reading not in kept):
                kept[reading] = view
        out.append(list(kept.values()))
    return out


def make_pairs(views: Sequence[View], most: int, rng: random.Random, reads: Reading) -> list[tuple[View, View]]:
    """Up to ``most`` pairs of two views of one place; about half lead to the POI row, whose text comes second.

    Pairs whose sides read the same, or where one merely begins with the other, are left out. Kinds are drawn by weight
    without replacement, so that the pairs show as many kinds as there are.
    """
    full = next((v for v in views if v.kind == FULL), None)
    order = weighted_order([v for v in views if v.kind != FULL], rng)
    pairs: list[tuple[View, View]] = []
    for n, view in enumerate(order):
        if len(pairs) >= most:
            break
        others = [full] if full is not None and n % 2 == 0 else [order[n - 1], full]
        for other in others:
            if other is not None and other is not view and differ(reads(view.text), reads(other.text)):
                pairs.append((view, other))
                break
    return pairs


def weighted_order(views: Sequence[View], rng: random.Random) -> list[View]:
    """Views in a random order in which the heavier ones tend to come first."""
    return sorted(views, key=lambda v: -(rng.random() ** (1.0 / max(v.weight, 1e-9))))


def differ(one: str, other: str) -> bool:
    """Whether two readings are different views: neither begins with the other."""
    return not (one.startswith(other) or other.startswith(one))
