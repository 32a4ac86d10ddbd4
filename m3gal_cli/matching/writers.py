"""Answers as text: JSON lines, CSV or GeoJSON. ``end`` completes a valid file after any number of batches."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypedDict, final

from m3gal_cli.errors import InputError
from m3gal_cli.files import suffix_of
from m3gal_cli.matching.matcher import Answer

AnswerFormat = Literal["jsonl", "csv", "geojson"]
FORMATS: dict[str, AnswerFormat] = {
    "": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".txt": "jsonl",
    ".csv": "csv",
    ".geojson": "geojson",
}
COLUMNS = ("id", "query", "rank", "poi_id", "address", "lng", "lat", "score", "distance_m")


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


def answer_writer(form: AnswerFormat, failures: bool = False) -> Writer:
    """Return the writer of a format. ``failures`` adds the CSV columns line and error."""
    if form == "csv":
        return _Csv(failures)
    return _GeoJson() if form == "geojson" else _JsonLines()


class _JsonLines(Writer):
    """One answer per line."""

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        return "".join(_json(answer) + "\n" for answer in answers)


class _Csv(Writer):
    """One row per match; one row with empty match columns for a failure or a query without matches."""

    def __init__(self, failures: bool) -> None:
        self._columns = (*COLUMNS, "line", "error") if failures else COLUMNS
        self._started = False

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        file = io.StringIO()
        table = csv.DictWriter(file, self._columns, lineterminator="\n")
        if not self._started:
            table.writeheader()
            self._started = True
        for answer in answers:
            table.writerows({name: _cell(value) for name, value in row.items()} for row in _rows(answer))
        return file.getvalue()


class _GeoJson(Writer):
    """A FeatureCollection, one feature per line: a Point per match, or null for a failure or without matches."""

    def __init__(self) -> None:
        self._started = False

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        lines = []
        for row in (row for answer in answers for row in _rows(answer)):
            lng, lat = row.pop("lng", None), row.pop("lat", None)
            geometry = None if lng is None else {"type": "Point", "coordinates": [lng, lat]}
            start = "," if self._started else '{"type": "FeatureCollection", "features": [\n'
            lines.append(start + _json({"type": "Feature", "geometry": geometry, "properties": row}) + "\n")
            self._started = True
        return "".join(lines)

    def end(self) -> str:
        return "]}\n" if self._started else ""


def _rows(answer: Answer | Failure) -> Iterator[dict[str, Any]]:
    """Yield the matches of an answer, each with the id and the text of the query."""
    if "matches" not in answer:
        yield dict(answer)
        return
    query = {"id": answer["id"], "query": answer["query"]}
    if not answer["matches"]:
        yield query
    for match in answer["matches"]:
        yield query | dict(match)


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, dict | list | bool) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
