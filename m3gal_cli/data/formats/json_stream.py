"""Read the objects of a JSON text one by one: an array, a FeatureCollection, an answer that lists its rows, objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from m3gal_cli.data.formats.answers import begins_objects, may_list_rows
from m3gal_cli.data.formats.geojson import require_wgs84
from m3gal_cli.data.formats.source import MAX_ROW_BYTES
from m3gal_cli.errors import InputError

_SPACE = re.compile(r"[ \t\r\n\x1e\ufeff]*")  # with the record separator of RFC 8142
_HINT = "Is it complete? Make or fetch it again."
_decode = json.JSONDecoder().raw_decode


class JsonStream:
    """The objects of a JSON text, of which a part is in memory.

    Args:
        chunks: The text in pieces.
        name: Name of the file in errors.

    Attributes:
        list_name: Name of the list that has the last object: "features" of a FeatureCollection, "pois"; "" without.
    """

    def __init__(self, chunks: Iterator[str], name: str) -> None:
        self._chunks, self._name = chunks, name
        self._text, self._at, self._ended = "", 0, False
        self._lines = 1  # number of the line at the beginning of the text
        self.list_name = ""

    def __iter__(self) -> Iterator[tuple[Any, str]]:
        """Yield each object with its text. Raises InputError, which names the line, where the text is no JSON."""
        while first := self._peek():
            self.list_name = ""
            if first == "[":
                yield from self._array()
            elif first == "{":
                yield from self._object()
            else:
                raise self._error(f"expected {{ or [, got {first!r}")

    def _array(self) -> Iterator[tuple[Any, str]]:
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        while True:
            yield self._value()
            if self._either(",", "]") == "]":
                return

    def _object(self) -> Iterator[tuple[Any, str]]:
        """Yield the features of a FeatureCollection, the rows of an answer, or the object itself."""
        self._at += 1
        members: dict[str, Any] = {}
        texts: list[str] = []
        end = "}" if self._peek() == "}" else ","
        self._at += end == "}"
        while end == ",":
            key, _ = self._value()
            if not isinstance(key, str):
                raise self._error(f"expected a name in quotes, got {repr(key)[:40]}")
            self._either(":")
            if key == "features" and self._peek() == "[":
                require_wgs84(members, self._name)
                self.list_name = key
                yield from self._array()
            elif may_list_rows(key, members) and self._begins_objects():
                self.list_name = key
                yield from self._array()
            else:
                members[key], text = self._value()
                texts.append(text)
            end = self._either(",", "}")
        if self.list_name == "features":
            require_wgs84(members, self._name)  # ``crs`` may come after the features
        elif members.get("type") == "FeatureCollection":
            raise InputError("the FeatureCollection has no features", where=self._name, hint=_HINT)
        elif not self.list_name:
            yield members, "".join(texts)

    def _begins_objects(self) -> bool:
        self._peek()
        while (begins := begins_objects(self._text, self._at)) is None and self._text[self._at] == "[":
            if not self._grow():
                break
        return bool(begins)

    def _value(self) -> tuple[Any, str]:
        self._peek()
        while True:
            try:
                value, end = _decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated string")
                if self._ended or not cut or not self._grow():
                    self._at = min(error.pos, len(self._text))
                    raise self._error(error.msg) from error
            except (ValueError, RecursionError) as error:  # a number of too many digits, too many brackets
                raise self._error(str(error)) from error
            else:
                if end < len(self._text) or not self._grow():  # a number may go on in the next piece
                    text, self._at = self._text[self._at : end], end
                    return value, text

    def _either(self, *expected: str) -> str:
        """Skip one of the expected characters and return it."""
        found = self._peek()
        if found not in expected:
            raise self._error(f"expected {' or '.join(expected)}, got {found!r}")
        self._at += 1
        return found

    def _peek(self) -> str:
        """Skip white space and return the next character; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def _grow(self) -> bool:
        """Read on, as much as the text already has, and drop what was read. Return False at the end."""
        self._lines += self._text.count("\n", 0, self._at)
        pieces, size = [self._text[self._at :]], 0
        rest = len(pieces[0])
        if rest > MAX_ROW_BYTES:
            raise self._error(f"a value of more than {MAX_ROW_BYTES:,} characters")
        while not self._ended and size <= rest:
            piece = next(self._chunks, None)
            self._ended = piece is None
            pieces.append(piece or "")
            size += len(piece or "")
        self._text, self._at = "".join(pieces), 0
        return size > 0

    def _error(self, what: str) -> InputError:
        line = self._lines + self._text.count("\n", 0, self._at)
        return InputError(f"not JSON: {what}", where=f"{self._name}:{line}", hint=_HINT)
