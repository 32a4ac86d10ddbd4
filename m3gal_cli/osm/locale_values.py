"""Check the types of the values of a locale file. Every error names the file, and the key or the line."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from string import Formatter
from typing import Any

import yaml

from m3gal_cli.errors import InputError

_MERGE = "tag:yaml.org,2002:merge"  # <<, which may stand several times
_QUOTE = "Quote words that YAML reads as another type, such as yes, no, null or a date."


def parse_yaml(text: str, where: str) -> Any:
    """Parse a YAML text. Raises InputError for invalid YAML and for a duplicate key."""
    try:
        return yaml.load(text, _StrictLoader)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InputError(f"not YAML: {error.problem}", where=where + line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: the date 2001-99-99
        raise InputError(f"not YAML: {' '.join(str(error).split())[:120]}", where=where) from error


class _StrictLoader(yaml.SafeLoader):
    """A safe loader that rejects duplicate keys; YAML's own keeps the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for at, _ in node.value:
            if isinstance(at, yaml.ScalarNode) and at.tag != _MERGE:
                if at.value in seen:
                    problem = f"duplicate key {at.value!r}; remove one of them"
                    raise yaml.constructor.ConstructorError(None, None, problem, at.start_mark)
                seen.add(at.value)
        return super().construct_mapping(node, deep)


class CheckedMapping:
    """A mapping of a locale file, read by typed methods; each raises InputError for a value of another type.

    Error messages begin with ``where``, the file, and ``at``, the path of the mapping in the file ("" or "views.").
    """

    def __init__(self, data: dict[Any, Any], where: str, at: str = "") -> None:
        self.data = {str(k): v for k, v in data.items()}
        self.where, self.at = where, at

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def has_value(self, key: str) -> bool:
        """Return whether the key has a value other than null."""
        return self.data.get(key) is not None

    def error(self, key: str, what: str, hint: str | None = None) -> InputError:
        """Return an error about the value of ``key``, or about the mapping itself if ``key`` is ""."""
        at = f"{self.at}{key}".removesuffix(".")
        return InputError(what, where=f"{self.where}: {at}" if at else self.where, hint=hint)

    def _expected(self, key: str, kind: str, hint: str | None = None) -> InputError:
        return self.error(key, f"expected {kind}, got {str(self.data[key])[:60]!r}", hint)

    def check_keys(self, known: Collection[str], needed: Collection[str] = ()) -> None:
        """Reject unknown keys, and the absence of needed keys."""
        hint = f"Known: {', '.join(sorted(known))}."
        for key in self.data:
            if key not in known:
                raise self.error("", f"unknown key {key!r}", hint)
        for key in needed:
            if not self.has_value(key):
                raise self.error("", f"lacks {key}", hint)

    def mapping(self, key: str) -> CheckedMapping:
        """Return the mapping under ``key``; an empty one for null or a missing key."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._expected(key, "a mapping")
        return CheckedMapping(value or {}, self.where, f"{self.at}{key}.")

    def text(self, key: str, default: str = "") -> str:
        """Return a text; numbers are converted."""
        if key not in self.data:
            return default
        if not _is_text(self.data[key]):
            raise self._expected(key, "text", _QUOTE)
        return str(self.data[key])

    def texts(self, key: str, default: Sequence[str] = ()) -> tuple[str, ...]:
        """Return a text or a list of texts as a tuple; () for null."""
        value = self.data.get(key, default)
        every = [] if value is None else list(value) if isinstance(value, list | tuple) else [value]
        if not all(map(_is_text, every)):
            raise self._expected(key, "a text or a list of texts", _QUOTE)
        return tuple(map(str, every))

    def nonempty_texts(self, key: str) -> tuple[str, ...]:
        """Return at least one text."""
        texts = self.texts(key)
        if not texts:
            raise self.error(key, "expected at least one text")
        return texts

    def groups(self, key: str) -> list[tuple[str, ...]]:
        """Return groups of two or more different texts, none of them empty."""
        value = self.data.get(key) or []
        if not isinstance(value, list):
            raise self._expected(key, "a list of lists of texts")
        out = []
        for n, group in enumerate(value, 1):
            words = CheckedMapping({f"{n}": group}, self.where, f"{self.at}{key}.").texts(f"{n}")
            if len(set(words)) < 2 or not all(w.removeprefix("#") for w in words):
                raise self.error(f"{key}.{n}", f"expected two or more different texts, got {group!r}")
            out.append(words)
        return out

    def wordings(self, key: str, wordings: Sequence[str], allowed: Collection[str]) -> tuple[str, ...]:
        """Return format texts, checked to contain only allowed fields; the field "" is {}, allowed once in a text."""
        for wording in wordings:
            try:
                fields = [part[1:] for part in Formatter().parse(wording) if part[1] is not None]
            except ValueError as error:
                raise self.error(key, f"{wording!r}: {error}", "Write {{ and }} for braces.") from error
            for name, spec, conversion in fields:
                inner = f"{name}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}"
                if inner not in allowed:
                    hint = f"It can contain {', '.join(f'{{{a}}}' for a in sorted(allowed))}."
                    raise self.error(key, f"{wording!r} contains {{{inner}}}", hint)
            if [name for name, *_ in fields].count("") > 1:
                raise self.error(key, f"{wording!r} contains {{}} twice")
        return tuple(wordings)

    def number_wording(self, key: str, default: str) -> str:
        """Return a format text with one {}."""
        wording = self.wordings(key, [self.text(key, default)], ("",))[0]
        if wording.format("1") == wording.format("2"):
            raise self.error(key, f"{wording!r} lacks {{}}", "Write {} in place of the number.")
        return wording

    def number(self, key: str, default: float, least: float = 0, most: float = 1e6) -> float:
        """Return a number from ``least`` to ``most``."""
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self._expected(key, f"a number from {least:g} to {most:g}")
        return float(value)

    def integer(self, key: str, default: int, least: int, most: int) -> int:
        """Return a whole number from ``least`` to ``most``."""
        number = self.number(key, default, least, most)
        if number % 1:
            raise self._expected(key, "a whole number")
        return int(number)

    def boolean(self, key: str) -> bool:
        """Return true or false; false for a missing key."""
        value = self.data.get(key, False)
        if not isinstance(value, bool):
            raise self._expected(key, "true or false")
        return value

    def patterns(self, key: str) -> list[re.Pattern[str]]:
        """Return compiled regular expressions."""
        return [self.pattern(key, text) for text in self.texts(key)]

    def pattern(self, key: str, text: str, flags: re.RegexFlag = re.NOFLAG) -> re.Pattern[str]:
        """Compile a regular expression that is the value of ``key``."""
        try:
            return re.compile(text, flags)
        except (re.error, OverflowError, RecursionError) as error:
            raise self.error(key, f"not a regular expression: {text!r} ({error})") from error


def _is_text(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)
