"""Answers as text: JSON lines, CSV, GeoJSON. What is written can be read whole after every batch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, TypedDict, final

from m3gal_cli.matching.matcher import Answer

AnswerFormat = Literal["jsonl", "csv", "geojson"]
COLUMNS = ("id", "query", "rank", "poi_id", "address", "lng", "lat", "score", "distance_m")


@final
class Failure(TypedDict):
    """What stands in the place of a line that is no query."""

    id: Any
    line: int
    error: str


class Writer(Protocol):
    """Turns answers into text, batch after batch."""

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        """Whole lines, with whatever must come before the first."""
        ...

    def end(self) -> str:
        """What must come after the last."""
        ...


def answer_writer(form: AnswerFormat, failures: bool = False) -> Writer:
    """The writer of a format; ``failures``: whether some may come (CSV needs columns for them from the beginning)."""
    if form == "csv":
        return _Csv(failures)
    return _GeoJson() if form == "geojson" else _JsonLines()


class _JsonLines:
    """An answer a line."""

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        return "".join(_json(answer) + "\n" for answer in answers)

    def end(self) -> str:
        return ""


class _Csv:
    """A row a match; one without a place for a query that has no match, or is none."""

    def __init__(self, failures: bool) -> None:
        self._columns = (*COLUMNS, "line", "error") if failures else COLUMNS
        self._begun = False

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        file = io.StringIO()
        table = csv.DictWriter(file, self._columns, lineterminator="\n")
        if not self._begun:
            table.writeheader()
            self._begun = True
        for answer in answers:
            table.writerows({name: _cell(value) for name, value in row.items()} for row in _rows(answer))
        return file.getvalue()

    def end(self) -> str:
        return ""


class _GeoJson:
    """A FeatureCollection, a line a feature: a Point a match; no geometry for a query that has none, or is none."""

    def __init__(self) -> None:
        self._begun = False

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        lines = []
        for row in (row for answer in answers for row in _rows(answer)):
            lng, lat = row.pop("lng", None), row.pop("lat", None)
            geometry = None if lng is None else {"type": "Point", "coordinates": [lng, lat]}
            head = "," if self._begun else '{"type": "FeatureCollection", "features": [\n'
            lines.append(head + _json({"type": "Feature", "geometry": geometry, "properties": row}) + "\n")
            self._begun = True
        return "".join(lines)

    def end(self) -> str:
        return "]}\n" if self._begun else ""


def _rows(answer: Answer | Failure) -> Iterator[dict[str, Any]]:
    """The matches of an answer, each with the query."""
    if "matches" not in answer:
        yield dict(answer)
        return
    head = {"id": answer["id"], "query": answer["query"]}
    if not answer["matches"]:
        yield head
    for match in answer["matches"]:
        yield head | dict(match)


def _cell(value: Any) -> Any:
    return _json(value) if isinstance(value, dict | list | bool) else value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
