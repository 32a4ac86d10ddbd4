"""Typed-query noise: what happens to a description between the head and the keyboard. Seeded, apart from the views."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from m3gal_cli.osm.locales import Locale
from m3gal_cli.osm.views import View, joined

LONG = 5  # letters of a name that may lose some
_PUNCTUATION = re.compile(r"[,，;；:：·•\-–—/&'’\"“”.。]")
_BRACKETS = re.compile(r"[()（）\[\]【】]")
_DIGITS = re.compile(r"\d+")


def typed(view: View, locale: Locale, rng: random.Random, *, strength: float = 0.5, sure: bool = True) -> str:
    """A view as somebody may type it.

    Args:
        view: The view.
        locale: Its spelling variants and droppable parts.
        rng: The source of chance; equal states give equal texts.
        strength: Chance of each kind of slip, 0 (none) to 1.
        sure: Whether the place's name is its own alone; if not, no part is dropped, as that may be the telling one.

    Returns:
        The text; the view's own where the slips would leave nothing.
    """
    pieces = [p for p in view.pieces if not (sure and p.optional and rng.random() < strength / 2)]
    fields = [n for n, p in enumerate(pieces) if p.field]
    if view.swap and len(fields) > 1 and rng.random() < strength / 2:
        a, b = fields[0], fields[-1]
        pieces[a], pieces[b] = pieces[b], pieces[a]
    words = [_piece(p.text, locale, rng, strength, sure) if p.field else p.text for p in pieces]
    named = [n for n, p in enumerate(pieces) if p.field]
    if named and rng.random() < strength * locale.slips:
        chosen = rng.choice(named)
        words[chosen] = slip(words[chosen], rng)
    text = joined(words, view.join)
    steps: list[tuple[float, Callable[[str], str]]] = [
        (0.5, drop_brackets),
        (0.3, lambda t: drop_punctuation(t, view.join)),
        (0.5 if view.join else 0.0, str.lower),
        (0.3, plain_letters),
    ]
    for share, step in steps:
        if rng.random() < strength * share:
            text = step(text)
    text = " ".join(text.split())
    return text if len(text) > 1 else view.text


def _piece(text: str, locale: Locale, rng: random.Random, strength: float, sure: bool) -> str:
    if sure and locale.shorten and len(text) > LONG and rng.random() < strength * locale.shorten:
        text = shorten(text, rng)
    if sure and rng.random() < strength * 0.4:
        text = drop_affix(text, locale, rng)
    if rng.random() < strength * 0.6:
        text = vary(text, locale, rng)
    if locale.numerals and rng.random() < strength * 0.1:
        text = chinese_numerals(text, locale.numerals)
    return text


def drop_affix(text: str, locale: Locale, rng: random.Random) -> str:
    """Leave out a bracket, a legal form or a city prefix that the locale says people leave out."""
    found = [p for p in locale.drop if p.search(text)]
    if not found:
        return text
    shorter = rng.choice(found).sub("", text).strip()
    return shorter if len(shorter) > 2 else text


def shorten(text: str, rng: random.Random) -> str:
    """Leave out up to a third of a name's letters (西湖区实验小学: 西湖实小学), no digit, no end, nothing of a word in
    ASCII: that is typed whole or not at all."""
    spots = [n for n in range(1, len(text) - 2) if text[n].isalpha() and not text[n].isascii()]
    gone = set(rng.sample(spots, min(len(spots), rng.randint(1, len(text) // 3)))) if spots else set()
    return "".join(c for n, c in enumerate(text) if n not in gone)


def vary(text: str, locale: Locale, rng: random.Random) -> str:
    """Write one spelling of the locale's variant groups for another (幢 for 号楼, St for Street)."""
    ways = []
    for group in locale.variants:
        found = [(word, at) for word in group if (at := _last(word, text)) >= 0]
        if found:
            ways.append((group, *max(found, key=lambda way: len(way[0]))))  # "(南门)", not the 南门 in it
    if not ways:
        return text
    group, word, at = rng.choice(ways)
    other = rng.choice([w for w in group if w != word])
    return text[:at] + other.removeprefix("#") + text[at + len(word.removeprefix("#")) :]


def _last(word: str, text: str) -> int:
    """Where ``word`` stands last in ``text``, -1 if nowhere. In alphabets it must end a word, and start one unless it
    is written small (a suffix such as "strasse"). A leading "#" stands for a number or a letter before it."""
    pattern = _word(word)
    if pattern is None or word.removeprefix("#") not in text:
        return text.rfind(word)
    found = [m.start() for m in pattern.finditer(text)]
    return found[-1] if found else -1


@lru_cache(maxsize=4096)
def _word(word: str) -> re.Pattern[str] | None:
    """What finds a word of a variant group; None where the plain text will do."""
    if word.startswith("#"):
        return re.compile(r"(?<=[0-9A-Za-z一二三四五六七八九十])" + re.escape(word[1:]))
    if not word.strip().isascii() and "ß" not in word:
        return None
    start = r"(?<!\w)" if word[0].isupper() else ""
    end = r"(?!\w)" if word[-1].isalpha() else ""
    return re.compile(start + re.escape(word) + end)


def chinese_numerals(text: str, numerals: str) -> str:
    """Write numbers up to 10 in the locale's numerals (``numerals[n - 1]`` for n)."""

    def one(match: re.Match[str]) -> str:
        number = int(match.group())
        return numerals[number - 1] if 1 <= number <= len(numerals) else match.group()

    return _DIGITS.sub(one, text)


def drop_brackets(text: str) -> str:
    """Leave out brackets, not what stands in them."""
    return _BRACKETS.sub("", text)


def drop_punctuation(text: str, join: str) -> str:
    """Leave out commas, dots and dashes; numbers that a dash parts stay apart."""
    return _PUNCTUATION.sub(" " if join else "", re.sub(r"(?<=\d)[-–](?=\d)", "~", text)).replace("~", "-")


def plain_letters(text: str) -> str:
    """Leave out accents: ä becomes a. Other scripts stay as they are."""
    split = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in split if not "\u0300" <= c <= "\u036f"))


def slip(text: str, rng: random.Random) -> str:
    """One slip of a finger: a letter left out, doubled, or two letters swapped. Digits are never touched."""
    spots = [n for n in range(1, len(text) - 1) if text[n].isalpha() and text[n + 1].isalpha()]
    if len(spots) < 4:
        return text
    n = rng.choice(spots)
    kind = rng.randrange(3)
    if kind == 0:
        return text[:n] + text[n + 1 :]
    if kind == 1:
        return text[:n] + text[n + 1] + text[n] + text[n + 2 :]
    return text[:n] + text[n] + text[n:]
