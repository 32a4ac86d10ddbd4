"""The values of a locale file, their types checked. Every mistake is one InputError that names file and key (file and
line, where a key stands twice)."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from string import Formatter
from typing import Any

import yaml

from m3gal_cli.errors import InputError

_MERGE = "tag:yaml.org,2002:merge"  # <<, which may stand several times
_QUOTE = "Quote words that YAML takes for something else (yes, no, on, off, null, dates)."


def parse(text: str, where: str) -> Any:
    """What YAML makes of a text. Raises InputError for broken YAML, and for a mapping that has a key twice."""
    try:
        return yaml.load(text, _Strict)
    except _Twice as error:
        hint = "YAML would keep the last one: leave one of them out."
        raise InputError(f"the key {error.key!r} stands here again", where=f"{where}:{error.line}", hint=hint) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2001-99-99 is no date
        raise InputError(f"not YAML: {' '.join(str(error).split())[:120]}", where=where) from error


class _Twice(Exception):
    """A key that its mapping has already, as text, and its line from 1 on."""

    def __init__(self, key: str, line: int) -> None:
        super().__init__(key)
        self.key, self.line = key, line


class _Strict(yaml.SafeLoader):
    """YAML's safe loader, which keeps the last of equal keys, but not here."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for at, _ in node.value:
            if isinstance(at, yaml.ScalarNode) and at.tag != _MERGE:
                if at.value in seen:
                    raise _Twice(at.value, at.start_mark.line + 1)
                seen.add(at.value)
        return super().construct_mapping(node, deep)


class Values:
    """A mapping of a locale file; every method raises InputError for a value that is none of its kind.

    Args:
        data: The mapping.
        where: The file, as messages name it.
        at: Where the mapping stands in the file: "" or "views.".
    """

    def __init__(self, data: dict[Any, Any], where: str, at: str = "") -> None:
        self.data = {str(k): v for k, v in data.items()}
        self.where, self.at = where, at

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def given(self, key: str) -> bool:
        """Whether there is a value other than null."""
        return self.data.get(key) is not None

    def bad(self, key: str, what: str, hint: str | None = None) -> InputError:
        """The error that says what is wrong with the value of ``key`` ("" for the mapping itself)."""
        at = f"{self.at}{key}".removesuffix(".")
        return InputError(what, where=f"{self.where}: {at}" if at else self.where, hint=hint)

    def _expected(self, key: str, kind: str, hint: str | None = None) -> InputError:
        return self.bad(key, f"expected {kind}, got {str(self.data[key])[:60]!r}", hint)

    def only(self, known: Collection[str], needed: Collection[str] = ()) -> None:
        """Refuse keys that are not known, and the absence of those that are needed."""
        hint = f"Known: {', '.join(sorted(known))}."
        for key in self.data:
            if key not in known:
                raise self.bad("", f"unknown key {key!r}", hint)
        for key in needed:
            if not self.given(key):
                raise self.bad("", f"lacks {key}", hint)

    def inside(self, key: str) -> Values:
        """The mapping under ``key``; an empty one for null or nothing."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._expected(key, "a mapping")
        return Values(value or {}, self.where, f"{self.at}{key}.")

    def text(self, key: str, default: str = "") -> str:
        """A text; numbers will do."""
        if key not in self.data:
            return default
        if not _is_text(self.data[key]):
            raise self._expected(key, "text", _QUOTE)
        return str(self.data[key])

    def words(self, key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """A text or a list of texts; none for null."""
        value = self.data.get(key, default)
        every = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
        if not all(map(_is_text, every)):
            raise self._expected(key, "a text or a list of texts", _QUOTE)
        return tuple(map(str, every))

    def some(self, key: str) -> tuple[str, ...]:
        """At least one text."""
        words = self.words(key)
        if not words:
            raise self.bad(key, "expected at least one text")
        return words

    def groups(self, key: str) -> list[tuple[str, ...]]:
        """A list of lists of two or more texts, none of them empty."""
        value = self.data.get(key) or []
        if not isinstance(value, list):
            raise self._expected(key, "a list of lists of texts")
        out = []
        for n, group in enumerate(value, 1):
            words = Values({f"{n}": group}, self.where, f"{self.at}{key}.").words(f"{n}")
            if len(set(words)) < 2 or not all(w.removeprefix("#") for w in words):
                raise self.bad(f"{key}.{n}", f"expected two or more texts that stand for each other, got {group!r}")
            out.append(words)
        return out

    def slots(self, key: str, words: Sequence[str], allowed: Collection[str]) -> tuple[str, ...]:
        """The wordings of ``key``, if their braces hold only what may be filled in: names, or "" for {}, which a
        wording may hold once."""
        for wording in words:
            try:
                found = [part[1:] for part in Formatter().parse(wording) if part[1] is not None]
            except ValueError as error:
                raise self.bad(key, f"{wording!r}: {error}", "Write {{ and }} for braces.") from error
            for name, spec, conversion in found:
                inner = f"{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}"
                if inner not in allowed:
                    hint = f"It may hold {', '.join(f'{{{a}}}' for a in sorted(allowed))}."
                    raise self.bad(key, f"{wording!r} holds {{{inner}}}", hint)
            if [name for name, *_ in found].count("") > 1:
                raise self.bad(key, f"{wording!r} holds {{}} twice")
        return tuple(words)

    def wording(self, key: str, default: str) -> str:
        """A text with {} for what is filled in, once."""
        wording = self.slots(key, [self.text(key, default)], ("",))[0]
        if wording.format("1") == wording.format("2"):
            raise self.bad(key, f"{wording!r} lacks {{}}", "Write {} where the number is to stand.")
        return wording

    def number(self, key: str, default: float, least: float = 0, most: float = 1e6) -> float:
        """A number from ``least`` to ``most``."""
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._expected(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number from ``least`` to ``most``."""
        number = self.number(key, default, least, most)
        if number % 1:
            raise self._expected(key, "a whole number")
        return int(number)

    def truth(self, key: str) -> bool:
        """true or false, false if nothing is said."""
        value = self.data.get(key, False)
        if not isinstance(value, bool):
            raise self._expected(key, "true or false")
        return value

    def patterns(self, key: str) -> list[re.Pattern[str]]:
        """Regular expressions."""
        return [self.pattern(key, text) for text in self.words(key)]

    def pattern(self, key: str, text: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
        """A regular expression that stands under ``key``."""
        try:
            return re.compile(text, flags)
        except (re.error, OverflowError, RecursionError) as error:
            raise self.bad(key, f"not a regular expression: {text!r} ({error})") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
