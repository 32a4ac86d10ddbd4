"""ASCII readings of texts of any script, by the library anyascii: München -> munchen, 王府井 -> wangfujing."""

from __future__ import annotations

from anyascii import anyascii


class _Readings(dict[int, str]):
    """The reading of each letter in lower case, by its code point."""

    def __missing__(self, point: int) -> str:
        self[point] = anyascii(chr(point)).lower()
        return self[point]


_READINGS = _Readings()


def romanise(text: str) -> str:
    """Return the ASCII reading of a text in lower case; white space and punctuation are kept."""
    return text.lower() if text.isascii() else text.translate(_READINGS)
