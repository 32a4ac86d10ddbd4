"""Character 1-2-grams of one text, written out: the oracle of the vectorised extractor."""

from __future__ import annotations

import re
import unicodedata


def character_ngrams(text: str) -> list[str]:
    """Return the 1- and 2-grams of a text: letters and digits, NFKC and lower case; no 2-gram spans a gap."""
    grams: list[str] = []
    for word in re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).lower()):
        grams += [*word, *(word[i : i + 2] for i in range(len(word) - 1))]
    return grams


def code_of(gram: str) -> int:
    """Return the code of a 1- or 2-gram."""
    return ord(gram) if len(gram) == 1 else ord(gram[0]) << 21 | ord(gram[1])
