"""ASCII readings of texts of any script, by the library anyascii: München -> munchen, 王府井 -> wangfujing."""

from __future__ import annotations

from functools import lru_cache

from anyascii import anyascii


@lru_cache(maxsize=1 << 16)
def romanise(text: str) -> str:
    """Return the ASCII reading of a text in lower case; white space and punctuation are kept."""
    return text.lower() if text.isascii() else anyascii(text).lower()
