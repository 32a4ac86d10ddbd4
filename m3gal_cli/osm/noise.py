"""Typing noise of queries: seeded, and applied after the views are rendered."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from m3gal_cli.osm.locales import Locale
from m3gal_cli.osm.uniqueness import UniquenessIndex
from m3gal_cli.osm.views import View, join_texts
from m3gal_cli.text.normalise import reading_key
from m3gal_cli.text.perturbations import drop_letter, insert_letter, no_diacritics, swap_letters

LONG_NAME = 5  # longer names can lose letters
_PUNCTUATION = re.compile(r"[,，;；:：·•\-–—/&'’\"“”.。]")
_BRACKETS = re.compile(r"[()（）\[\]【】]")
_DIGITS = re.compile(r"\d+")


class CollisionFreeNoise:
    """Applies noise, but never makes a text that another place has.

    A text belongs to the place that has it as a view, else to the first place that gets it from noise. So the result
    depends on the order of the calls.

    Args:
        uniqueness: The views of all places.
        unique_names: (N,) whether the name of each place is unique and not generic.
        locales: Locale by language, "" for the language of the map.
        strength: Strength of the noise, 0 to 1.
        seed: Random seed.
    """

    def __init__(
        self,
        uniqueness: UniquenessIndex,
        unique_names: Sequence[bool],
        locales: Mapping[str, Locale],
        strength: float,
        seed: int,
    ) -> None:
        self.locales, self.strength, self.seed = locales, strength, seed
        self._uniqueness = uniqueness
        self._unique_names = unique_names
        self._claims: dict[int, int] = {}

    def apply(self, place: int, view: View, salt: str) -> str:
        """Return the text of a view with noise, or without if the result belongs to another place or is a POI row."""
        rng = random.Random(f"{self.seed}|{salt}|{place}|{view.kind}|{view.text}")
        locale = self.locales[view.kind.partition("@")[2]]
        text = add_noise(view, locale, rng, strength=self.strength, unique_name=self._unique_names[place])
        key = reading_key(text)
        if self._uniqueness.is_poi_row(key):  # training pairs contain the POI rows; queries must not
            return view.text
        return text if self.claim(place, key) else view.text

    def claim(self, place: int, key: str) -> bool:
        """Return whether a reading key belongs to a place; assign a key that belongs to no place yet."""
        owner = self._uniqueness.owner(key)
        if owner is None:
            owner = self._claims.setdefault(hash(key), place)
        return owner == place


def add_noise(view: View, locale: Locale, rng: random.Random, *, strength: float, unique_name: bool = True) -> str:
    """Return the text of a view as a user could type it; without noise if at most one character would be left.

    Args:
        view: The view.
        locale: Its spelling variants and its ``drop`` patterns are used.
        rng: Random generator; equal states give equal texts.
        strength: Factor of the probability of each kind of noise, from 0 (no noise) to 1.
        unique_name: Whether no other place has the name. If not, no part is dropped: it may distinguish the places.
    """
    parts = [p for p in view.parts if not (unique_name and p.optional and rng.random() < strength / 2)]
    slots = [n for n, p in enumerate(parts) if p.slot]
    if view.swap and len(slots) > 1 and rng.random() < strength / 2:
        a, b = slots[0], slots[-1]
        parts[a], parts[b] = parts[b], parts[a]
    texts = [_vary_part(p.text, locale, rng, strength, unique_name) if p.slot else p.text for p in parts]
    slots = [n for n, p in enumerate(parts) if p.slot]
    if slots and rng.random() < strength * locale.slips:
        chosen = rng.choice(slots)
        texts[chosen] = typo(texts[chosen], rng)
    text = join_texts(texts, view.join)
    steps: list[tuple[float, Callable[[str], str]]] = [
        (0.5, drop_brackets),
        (0.3, lambda t: drop_punctuation(t, view.join)),
        (0.5 if view.join else 0.0, str.lower),
        (0.3, no_diacritics),
    ]
    for share, step in steps:
        if rng.random() < strength * share:
            text = step(text)
    text = " ".join(text.split())
    return text if len(text) > 1 else view.text


def _vary_part(text: str, locale: Locale, rng: random.Random, strength: float, unique_name: bool) -> str:
    if unique_name and locale.shorten and len(text) > LONG_NAME and rng.random() < strength * locale.shorten:
        text = shorten(text, rng)
    if unique_name and rng.random() < strength * 0.4:
        text = drop_affix(text, locale, rng)
    if rng.random() < strength * 0.6:
        text = swap_variant(text, locale, rng)
    if locale.numerals and rng.random() < strength * 0.1:
        text = replace_digits(text, locale.numerals)
    return text


def drop_affix(text: str, locale: Locale, rng: random.Random) -> str:
    """Drop a bracket, legal form or city prefix that matches one of the locale's ``drop`` patterns."""
    matching = [p for p in locale.drop if p.search(text)]
    if not matching:
        return text
    shorter = rng.choice(matching).sub("", text).strip()
    return shorter if len(shorter) > 2 else text


def shorten(text: str, rng: random.Random) -> str:
    """Drop up to a third of the letters inside a name (西湖区实验小学: 西湖实小学); digits and ASCII letters stay."""
    at = [n for n in range(1, len(text) - 2) if text[n].isalpha() and not text[n].isascii()]
    dropped = set(rng.sample(at, min(len(at), rng.randint(1, len(text) // 3)))) if at else set()
    return "".join(c for n, c in enumerate(text) if n not in dropped)


def swap_variant(text: str, locale: Locale, rng: random.Random) -> str:
    """Replace one spelling of the locale's variant groups by another (幢 for 号楼, St for Street)."""
    matches = []
    for group in locale.variants:
        present = [(word, at) for word in group if (at := _last_index(word, text)) >= 0]
        if present:
            matches.append((group, *max(present, key=lambda match: len(match[0]))))  # "(南门)" contains "南门"
    if not matches:
        return text
    group, word, at = rng.choice(matches)
    other = rng.choice([w for w in group if w != word])
    return text[:at] + other.removeprefix("#") + text[at + len(word.removeprefix("#")) :]


def _last_index(word: str, text: str) -> int:
    """Return the last position of a variant in a text, -1 for none; see ``_variant_pattern``."""
    pattern = _variant_pattern(word)
    if pattern is None or word.removeprefix("#") not in text:
        return text.rfind(word)
    return max((m.start() for m in pattern.finditer(text)), default=-1)


@lru_cache(maxsize=4096)
def _variant_pattern(word: str) -> re.Pattern[str] | None:
    """Return a pattern for a variant, None if a search for the text is enough."""
    # "#" needs a number or letter before. Elsewhere whole words match, and lower-case suffixes such as "strasse".
    if word.startswith("#"):
        return re.compile(r"(?<=[0-9A-Za-z一二三四五六七八九十])" + re.escape(word[1:]))
    if not word.strip().isascii() and "ß" not in word:
        return None
    start = r"(?<!\w)" if word[0].isupper() else ""
    end = r"(?!\w)" if word[-1].isalpha() else ""
    return re.compile(start + re.escape(word) + end)


def replace_digits(text: str, numerals: str) -> str:
    """Write each number n from 1 to ``len(numerals)`` as ``numerals[n - 1]``."""

    def numeral(match: re.Match[str]) -> str:
        number = int(match.group())
        return numerals[number - 1] if 1 <= number <= len(numerals) else match.group()

    return _DIGITS.sub(numeral, text)


def drop_brackets(text: str) -> str:
    """Drop brackets, but not the text inside."""
    return _BRACKETS.sub("", text)


def drop_punctuation(text: str, join: str) -> str:
    """Drop commas, dots and dashes, but not a dash between numbers."""
    return _PUNCTUATION.sub(" " if join else "", re.sub(r"(?<=\d)[-–](?=\d)", "~", text)).replace("~", "-")


def typo(text: str, rng: random.Random) -> str:
    """Drop, swap or double one letter; digits never change."""
    at = [n for n in range(1, len(text) - 1) if text[n].isalpha() and text[n + 1].isalpha()]
    if len(at) < 4:
        return text
    n = rng.choice(at)
    kind = rng.randrange(3)
    if kind == 0:
        return drop_letter(text, n)
    return swap_letters(text, n) if kind == 1 else insert_letter(text, n, text[n])
