"""Queries as people hand them in: plain lines, or JSON objects with a place of their own."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from m3gal_cli.data.files import open_text, require_file
from m3gal_cli.data.records import parse_lnglat
from m3gal_cli.errors import InputError


@dataclass(frozen=True)
class Query:
    """What was typed, by whose id, and where (degrees, WGS-84), if known."""

    id: Any
    text: str
    lng: float | None = None
    lat: float | None = None


def read_queries(source: Path | IO[str]) -> list[Query]:
    """Read queries from a file (.gz too) or an open stream. A line is plain text or {"query", "id"?, "lng"?, "lat"?}.

    Without an id the number of the line, from 1, is its id. A blank line is an empty query, and refused like one.

    Raises:
        InputError: with file:line for broken JSON, an empty query or coordinates that are none.
    """
    if isinstance(source, Path):
        require_file(source, "file of queries")
        try:
            with open_text(source) as file:
                return _parse(file, str(source))
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read ({error})", where=source, hint="Is it UTF-8 text?") from error
    return _parse(source, "<stdin>")


def _parse(lines: Iterable[str], name: str) -> list[Query]:
    queries = [_query(line.strip(), number, f"{name}:{number}") for number, line in enumerate(lines, 1)]
    if not queries:
        raise InputError("no queries", where=name, hint="Write one query a line.")
    return queries


def _query(line: str, number: int, where: str) -> Query:
    if not line.startswith("{"):
        if not line:
            raise InputError("empty query", where=where, hint="Delete the line or type a query.")
        return Query(number, line)
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=where, hint="Repair or delete the line.") from error
    text = row.get("query")
    if not isinstance(text, str) or not text.strip():
        what = "empty query" if isinstance(text, str) else f"expected a query, got {text!r}"
        raise InputError(what, where=f"{where}: query", hint="Delete the line or type a query.")
    lng, lat = row.get("lng"), row.get("lat")
    if lng is None and lat is None:
        return Query(row.get("id", number), text)
    place = parse_lnglat(f"{lng},{lat}", f"{where}: lng, lat")
    return Query(row.get("id", number), text, *place)
