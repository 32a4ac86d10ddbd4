"""Answers as text: JSON lines, CSV or GeoJSON. ``end`` completes a valid file after any number of batches."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, final

from m3gal_cli.errors import InputError
from m3gal_cli.files import suffix_of
from m3gal_cli.matching.matcher import MATCH_KEYS, Answer, column_name

AnswerFormat = Literal["jsonl", "csv", "geojson"]
Warn = Callable[[str], None]
FORMATS: dict[str, AnswerFormat] = {
    "": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "jsonl",
    ".csv": "csv",
    ".geojson": "geojson",
}


@final
class Failure(TypedDict):
    """The output for a query that cannot be read."""

    id: Any
    line: int
    error: str


class Writer(Protocol):
    """Turns answers into text, batch after batch."""

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        """Return whole lines, with a header before the first."""
        ...

    def end(self) -> str:
        """Return the text after the last answer."""
        return ""


def output_format(path: Path) -> AnswerFormat:
    """Return the format of an output file by its suffix; JSON lines without a suffix. Raises InputError."""
    suffix = suffix_of(path)
    if suffix not in FORMATS:
        hint = f"Use one of: {', '.join(filter(None, FORMATS))}; or choose the format with --output-format."
        raise InputError(f"no output format has the suffix {suffix!r}", where=path, hint=hint)
    return FORMATS[suffix]


def answer_writer(
    form: AnswerFormat, match_columns: Sequence[str], failures: bool = False, warn: Warn | None = None
) -> Writer:
    """Return the writer of a format.

    Args:
        form: The format.
        match_columns: Fields of the matches, in order (CSV).
        failures: Add the CSV columns line and error.
        warn: Called at most once, with a message about query columns that the CSV header lacks.
    """
    if form == "csv":
        return _Csv(match_columns, failures, warn)
    return _GeoJson() if form == "geojson" else _JsonLines()


def match_columns(named: bool, further: Sequence[str]) -> list[str]:
    """Return the fields of a match in order.

    Args:
        named: Whether the POI table has names.
        further: Further columns of the POI table.
    """
    own = [column_name(name, MATCH_KEYS, "poi") for name in further]
    first = [key for key in MATCH_KEYS[:-1] if named or key != "name"]
    return [*first, *own, MATCH_KEYS[-1]]


class _JsonLines(Writer):
    """One answer per line."""

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        return "".join(_json(answer) + "\n" for answer in answers)


class _Csv(Writer):
    """One row per match; one row with empty match columns for a failure or a query without matches.

    The header has the columns of the first batch that contains an answer. Failures before it wait for the header.
    """

    def __init__(self, columns: Sequence[str], failures: bool, warn: Warn | None) -> None:
        self._match_columns, self._failures, self._warn = columns, failures, warn
        self._columns: list[str] = []
        self._waiting: list[Answer | Failure] = []

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        self._waiting += answers
        if not self._columns and not any("matches" in answer for answer in self._waiting):
            return ""
        return self._rows()

    def end(self) -> str:
        return self._rows() if self._waiting else ""

    def _rows(self) -> str:
        """Return the waiting answers as rows, behind the header if these are the first."""
        rows = [row for answer in self._waiting for row in _flat_rows(answer, self._match_columns)]
        self._waiting, start = [], not self._columns
        if start:
            taken = {"id", "query", "line", "error", *self._match_columns}
            extra = [name for row in rows for name in row if name not in taken]
            last = ["line", "error"] if self._failures else []
            self._columns = ["id", "query", *dict.fromkeys(extra), *self._match_columns, *last]
        file = io.StringIO()
        table = csv.DictWriter(file, self._columns, lineterminator="\n", extrasaction="ignore")
        if start:
            table.writeheader()
        missing = dict.fromkeys(name for row in rows for name in row if name not in self._columns)
        if missing and self._warn is not None:
            self._warn(f"query columns that the first queries lack are not in the output: {', '.join(missing)}")
            self._warn = None
        table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
        return file.getvalue()


class _GeoJson(Writer):
    """A FeatureCollection, one feature per line: a Point per match, or null for a failure or without matches."""

    def __init__(self) -> None:
        self._started = False

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        lines = []
        for row in (row for answer in answers for row in _flat_rows(answer, MATCH_KEYS)):
            lng, lat = row.pop("lng", None), row.pop("lat", None)
            geometry = None if lng is None else {"type": "Point", "coordinates": [lng, lat]}
            start = "," if self._started else '{"type": "FeatureCollection", "features": [\n'
            lines.append(start + _json({"type": "Feature", "geometry": geometry, "properties": row}) + "\n")
            self._started = True
        return "".join(lines)

    def end(self) -> str:
        return "]}\n" if self._started else ""


def _flat_rows(answer: Answer | Failure, match_columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the matches of an answer, each with the id, the text and the further columns of the query."""
    if "matches" not in answer:
        yield dict(answer)
        return
    taken = {*match_columns, *(key for match in answer["matches"] for key in match)}
    query = {column_name(key, taken, "query"): value for key, value in answer.items() if key != "matches"}
    if not answer["matches"]:
        yield query
    for match in answer["matches"]:
        yield query | dict(match)


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, dict | list | bool) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
