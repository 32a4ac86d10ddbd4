"""Normal forms of a text: words, letters and digits only, collapsed white space."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice

_HAN = re.compile(r"[\u3400-\u9fff]")
_WORD = re.compile(r"[^\W_]+")
_NO_WORD = re.compile(r"[\W_]+")
_SPACES = re.compile(r"\s+")


def words(text: str) -> list[str]:
    """Return the runs of letters and digits of a text, in NFKC form and lower case."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


def normalise(text: str) -> str:
    """Return the ``words`` of a text, joined by a space."""
    return " ".join(words(text))


def normalised_batches(texts: Iterable[str], size: int = 20_000) -> Iterator[list[str]]:
    """Yield texts in their normal form, in lists of at most ``size``."""
    remaining = iter(texts)
    while batch := [normalise(text) for text in islice(remaining, size)]:
        yield batch


@lru_cache(maxsize=1 << 16)
def reading_key(text: str) -> str:
    """Return the letters and digits of a text, in NFKC form and folded case.

    Texts with equal keys differ in punctuation, width or case only: a reader cannot tell them apart.
    """
    return _NO_WORD.sub("", unicodedata.normalize("NFKC", text).casefold())


def collapse_spaces(text: str) -> str:
    """Return a text in folded case, each run of white space replaced by one space."""
    return _SPACES.sub(" ", text.casefold())


def has_han(text: str) -> bool:
    """Return whether a text contains a Chinese character (U+3400 to U+9FFF)."""
    return _HAN.search(text) is not None
