"""How a text reads: what two texts have in common that nobody could tell apart."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_HAN = re.compile(r"[\u3400-\u9fff]")
_MARKS = re.compile(r"[\W_]+")


@lru_cache(maxsize=1 << 16)
def reads(text: str) -> str:
    """A text as it reads: letters and digits only, of one width and case. Equal readings cannot be told apart."""
    return _MARKS.sub("", unicodedata.normalize("NFKC", text).casefold())


def has_han(text: str) -> bool:
    """Whether a text holds a Chinese character."""
    return _HAN.search(text) is not None
