"""The styles of made queries. A maker returns a query and its gold, or None if the row lacks the parts for it."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from m3gal_cli.data.query_styles import references
from m3gal_cli.data.query_styles.source import Made, Source, beginning, with_edits, without_brackets
from m3gal_cli.data.query_styles.table import MAX_COMPARED, edit_distance, plain, stem
from m3gal_cli.data.query_styles.words import ADDED_WORDS
from m3gal_cli.text import perturbations
from m3gal_cli.text.folding import has_units
from m3gal_cli.text.romanise import romanise

Maker = Callable[[Source], Made | None]
NUMBER_SHARE, NO_NUMBER_SHARE, DISTRICT_SHARE, STREET_SHARE, WORD_IN_FRONT_SHARE = 0.3, 0.3, 0.3, 0.4, 0.3
OTHER_LANGUAGE = "other language"
MAX_NUMBER_DIGITS = 5  # of a house number
_DIGITS = re.compile(r"\d+")


def _variant(change: Callable[[str, random.Random], str]) -> Maker:
    """Return a style that changes the name, without a change of its letters."""

    def make(source: Source) -> Made | None:
        text = change(source.name, source.rng)
        return (text, source.same) if text != source.name else None

    return make


def _name(source: Source) -> Made:
    return source.poi.name, source.same


def _lower(source: Source) -> Made | None:
    text = source.poi.name.lower()
    return (text, source.same) if text != source.poi.name else None


def _edited(count: int) -> Maker:
    """Return a style with typing errors; the gold are the names with no more edits than the source needs."""

    def make(source: Source) -> Made | None:
        text = with_edits(source.name, count, source.rng)
        return (text, source.close(text)) if text else None

    return make


def _prefix(source: Source) -> Made | None:
    text = beginning(source.name, source.rng)
    return (text, source.table.starting(text)) if text else None


def _transliterated(source: Source) -> Made | None:
    text = romanise(without_brackets(source.name))
    return (text, source.table.sounding(source.poi.name)) if not source.name.isascii() else None


def _name_street(source: Source) -> Made | None:
    street = source.poi.street
    if source.rng.random() < NO_NUMBER_SHARE:
        street = stem(street)
    return source.with_parts(source.join(source.name, street, comma=True), street) if street else None


def _street_name(source: Source) -> Made | None:
    street = source.poi.street
    return source.with_parts(source.join(street, source.name, comma=True), street) if street else None


def _edited_name_street(source: Source) -> Made | None:
    """Return the name with an edit, and the street with its number or, without it, with an edit."""
    name, street, rng = with_edits(source.name, 1, source.rng), source.poi.street, source.rng
    if not street or not name:
        return None
    gold = source.close(name)
    if rng.random() < NUMBER_SHARE:
        return source.join(name, street, comma=True), source.table.having(gold, street)
    typed = perturbations.one_edit(stem(street), rng)
    edits = edit_distance(plain(typed), plain(stem(street)))
    return source.join(name, typed, comma=True), source.table.having_close(gold, typed, edits)


def _name_district(source: Source) -> Made | None:
    district = source.poi.district
    return source.with_parts(source.join(source.name, district, comma=True), district) if district else None


def _name_category(source: Source) -> Made | None:
    word = source.category
    return source.with_parts(source.join(source.name, word), word) if word else None


def _category_name(source: Source) -> Made | None:
    word = source.category
    return source.with_parts(source.join(word, source.name), word) if word else None


def _words_left_out(source: Source) -> Made | None:
    """Return the name without one word, or without a third of its letters (scripts without spaces)."""
    pieces = list(source.name) if source.units else source.name.split()
    if len(pieces) < 3:
        return None
    size = len(pieces) // 3 if source.units else 1
    at, glue = source.rng.randrange(len(pieces) - size + 1), "" if source.units else " "
    before, after = glue.join(pieces[:at]), glue.join(pieces[at + size :])
    if len(plain(before + after)) < (2 if source.units else 4):
        return None
    text = without_brackets(glue.join(filter(None, [before, after])))
    gold = source.table.containing(before, after)
    return source.with_street((text, gold), STREET_SHARE)


def _words_added(source: Source) -> Made | None:
    """Return the name with a general word; if it is the category of some POIs of that name, they are the gold."""
    front, back = next(words for letters, *words in ADDED_WORDS if letters.search(source.name))
    first = bool(front) and source.rng.random() < WORD_IN_FRONT_SHARE
    word = source.rng.choice(front if first else back)
    if plain(word) in plain(source.name) or _DIGITS.search(source.name) or len(source.same) > MAX_COMPARED:
        return None
    text = source.join(word, source.name) if first else source.join(source.name, word)
    return source.with_street((text, source.table.of_category(source.same, word) or source.same), STREET_SHARE)


def _number_first(source: Source) -> Made | None:
    """Return "12 Main Street, Cafe X" of a POI at "Main Street 12"."""
    street = source.poi.street
    road = stem(street)
    number = street[len(road) :].strip()
    if source.units or has_units(street) or not number or not street.startswith(road):
        return None
    return source.with_parts(source.join(f"{number} {road}", source.name, comma=True), street)


def _wrong_number(source: Source) -> Made | None:
    street = source.poi.street
    number = _DIGITS.search(street)
    if not number or len(number[0]) > MAX_NUMBER_DIGITS or stem(street) == street:
        return None
    wrong = max(1, int(number[0]) + source.rng.choice((-4, -2, 2, 4, 10)))
    typed = street[: number.start()] + str(wrong) + street[number.end() :]
    gold = source.table.having(source.same, stem(street))
    if wrong == int(number[0]) or source.table.having(source.same, typed):
        return None
    return source.join(source.name, typed, comma=True), gold


def _address(source: Source) -> Made | None:
    street, district = source.poi.street, source.poi.district
    if not _DIGITS.search(street):
        return None
    gold = source.table.exactly(street)
    if has_units(street):  # 东山路12号 is the address of 东山路12号3楼, too
        longer = re.compile(re.escape(plain(street)) + (r"\D" if street[-1].isdigit() else ""))
        rows = source.table.starting(street)
        gold |= {row for row in rows if longer.match(plain(source.table.poi(row).street))}
    if district and source.rng.random() < DISTRICT_SHARE:
        return source.join(street, district, comma=True), source.table.having(gold, district)
    return street, gold


def _other_language(source: Source) -> Made | None:
    names = [name for name in source.table.other_names.get(source.row, ()) if "," not in name]
    if not names:
        return None
    text = source.rng.choice(names)
    return text, source.table.exactly(text) | source.same


# Weight and maker of each style.
STYLES: dict[str, tuple[float, Maker]] = {
    "name": (2, _name),
    "lower case": (1, _lower),
    "one edit": (2, _edited(1)),
    "two edits": (2, _edited(2)),
    "prefix": (2, _prefix),
    "no spaces": (1, _variant(lambda text, rng: perturbations.no_spaces(text))),
    "no diacritics": (1, _variant(lambda text, rng: perturbations.no_diacritics(text))),
    "swapped words": (1, _variant(perturbations.swap_words)),
    "transliterated": (1, _transliterated),
    "name, street": (2, _name_street),
    "street, name": (1, _street_name),
    "name, street, edits": (3, _edited_name_street),
    "name, district": (2, _name_district),
    "name, category": (1, _name_category),
    "category, name": (1, _category_name),
    "words left out": (2, _words_left_out),
    "words added": (2, _words_added),
    "number first": (1, _number_first),
    "wrong number": (1, _wrong_number),
    "address": (1, _address),
    OTHER_LANGUAGE: (1.5, _other_language),
    "reference": (3, references.by_name),
    "partial reference": (4, references.by_part),
    "category reference": (3, references.by_category),
    "street reference": (2, references.by_street),
}
