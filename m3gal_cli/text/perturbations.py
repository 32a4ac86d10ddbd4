"""Changes of a query as users make them: typing errors, the start of the text only, other spellings.

Every function is pure. It returns the same text if it does not apply. Typing errors do not change digits, because
another number means another POI, and no white space.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Callable
from functools import cache

from m3gal_cli.text.normalise import has_han
from m3gal_cli.text.romanise import romanise

PREFIX_SHARE = 0.6
LEAST_LETTERS = 3  # a text with fewer letters has no typing error
_KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")  # of an English keyboard
_KEYS_BESIDE = {key: row[max(n - 1, 0) : n] + row[n + 1 : n + 2] for row in _KEY_ROWS for n, key in enumerate(row)}
_WORD = re.compile(r"\S+")


def drop_letter(text: str, at: int) -> str:
    """Return a text without the letter at a position."""
    return text[:at] + text[at + 1 :]


def swap_letters(text: str, at: int) -> str:
    """Return a text in which the letter at a position and the next one are exchanged."""
    return text[:at] + text[at + 1 : at + 2] + text[at] + text[at + 2 :]


def insert_letter(text: str, at: int, letter: str) -> str:
    """Return a text with one more letter before a position."""
    return text[:at] + letter + text[at:]


def replace_letter(text: str, at: int, letter: str) -> str:
    """Return a text with another letter at a position."""
    return text[:at] + letter + text[at + 1 :]


def one_edit(text: str, rng: random.Random) -> str:
    """Return a text with one typing error at a letter; the same text with fewer than ``LEAST_LETTERS`` letters.

    A letter is dropped, exchanged with the next one, or one of ``similar_letters`` takes its place or follows it. A
    Chinese character is dropped or replaced, nothing else. The kinds of error are equally likely where they apply.
    """
    at = [n for n, letter in enumerate(text) if letter.isalpha()]
    if len(at) < LEAST_LETTERS:
        return text
    n = rng.choice(at)
    others = similar_letters(text[n])
    errors: list[Callable[[], str]] = [lambda: drop_letter(text, n)]
    if others:
        errors.append(lambda: replace_letter(text, n, rng.choice(others)))
    if not has_han(text[n]):
        errors.append(lambda: insert_letter(text, n + 1, rng.choice(others + text[n])))
        if n + 1 in at and text[n + 1] != text[n]:
            errors.append(lambda: swap_letters(text, n))
    return rng.choice(errors)()


def two_edits(text: str, rng: random.Random) -> str:
    """Return a text with two typing errors, one after the other; the second does not undo the first.

    A text with at most ``LEAST_LETTERS`` letters does not change.
    """
    made = text
    if sum(letter.isalpha() for letter in text) > LEAST_LETTERS:
        while made == text:
            made = one_edit(one_edit(text, rng), rng)
    return made


def similar_letters(letter: str) -> str:
    """Return the letters that are typed instead of a letter by mistake, in its case; "" if none are known.

    For a Chinese character these are the common characters with the same reading, for a Latin letter those beside it
    on an English keyboard.
    """
    if has_han(letter):
        return _homophones().get(romanise(letter), "").replace(letter, "")
    beside = _KEYS_BESIDE.get(no_diacritics(letter).lower(), "")
    return beside.upper() if letter.isupper() else beside


@cache
def _homophones() -> dict[str, str]:
    """Return the characters of each reading, among the 3,755 most common ones (level 1 of GB 2312)."""
    rows = (bytes(byte for cell in range(0xA1, 0xFF) for byte in (row, cell)) for row in range(0xB0, 0xD8))
    out: dict[str, str] = {}
    for letter in "".join(row.decode("gb2312", errors="ignore") for row in rows):
        out[romanise(letter)] = out.get(romanise(letter), "") + letter
    return out


def prefix(text: str) -> str:
    """Return the first 60% of the characters, rounded, at least one, without white space around them."""
    return text[: max(1, round(PREFIX_SHARE * len(text)))].strip() or text


def no_spaces(text: str) -> str:
    """Return a text without white space."""
    return "".join(text.split())


def no_diacritics(text: str) -> str:
    """Return a text without accents and umlaut dots: ä becomes a. Letters without a base letter (ø, ß) stay."""
    split = unicodedata.normalize("NFD", text)
    return unicodedata.normalize("NFC", "".join(c for c in split if not "\u0300" <= c <= "\u036f"))


def swap_words(text: str, rng: random.Random) -> str:
    """Return a text in which two different words are exchanged; words are what white space separates."""
    words = list(_WORD.finditer(text))
    pairs = [(a, b) for i, a in enumerate(words) for b in words[i + 1 :] if a.group() != b.group()]
    if not pairs:
        return text
    a, b = rng.choice(pairs)
    return text[: a.start()] + b.group() + text[a.end() : b.start()] + a.group() + text[b.end() :]


def transliterate(text: str) -> str:
    """Return the ASCII reading of a text; the same text if it differs in case only."""
    reading = romanise(text)
    return text if reading == text.lower() else reading


PERTURBATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "one edit": one_edit,
    "two edits": two_edits,
    "prefix": lambda text, rng: prefix(text),
    "no spaces": lambda text, rng: no_spaces(text),
    "no diacritics": lambda text, rng: no_diacritics(text),
    "swapped words": swap_words,
    "transliterated": lambda text, rng: transliterate(text),
}


def perturb(text: str, kind: str, seed: int) -> str:
    """Return a text changed by a kind of ``PERTURBATIONS``. The result depends on the arguments only."""
    return PERTURBATIONS[kind](text, random.Random(f"{seed}|{kind}|{text}"))
