"""Read and write BEIR folders: corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv.

Coordinates are in the metadata of documents and queries: ``{"lng": …, "lat": …}`` in degrees, WGS-84.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from m3gal_cli.data.formats import BadRow
from m3gal_cli.data.labels import (
    ROLES,
    SPLIT_NAMES,
    Label,
    LabelledQuery,
    Labels,
    id_text,
    is_missing,
    parse_score,
    query_location,
)
from m3gal_cli.data.lines import open_lines
from m3gal_cli.data.tables import iter_json_lines
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_folder

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
HEADER = ["query-id", "corpus-id", "score"]
HINT = "A BEIR folder has corpus.jsonl, queries.jsonl and qrels/*.tsv."
FILE_OF = {"train": "train.tsv", "val": "dev.tsv", "test": "test.tsv"}


def is_beir(folder: Path) -> bool:
    """Return whether a folder has the corpus and the queries of BEIR, each also as .gz."""
    return all(_find(folder, name) is not None for name in (CORPUS, QUERIES))


def read_beir(folder: Path, own_pois: bool = True) -> Labels:
    """Read a BEIR folder as labels.

    Args:
        folder: The folder.
        own_pois: Read the corpus as POI table; without it the corpus is not read.

    Raises:
        InputError: A file is missing or unreadable, or a document or query is invalid (at file:line). Invalid rows of
            the qrels are in ``bad``.
    """
    out = Labels(folder)
    if own_pois:
        out.documents, out.pois = _read_corpus(_found(folder, CORPUS))
    number_of: dict[str, int] = {}
    path = _found(folder, QUERIES)
    for where, row in _objects(path):
        query_id, text = _id(row, where), _text(row, "text")
        _check(f"the query {query_id}", text, query_id in number_of, where)
        number_of[query_id] = len(out.queries)
        given_lng, given_lat, extra = _place(row, where)
        lng, lat = query_location(given_lng, given_lat, where)
        out.queries.append(LabelledQuery(text, lng, lat, query_id, extra=extra))
    paths = sorted((folder / QRELS).glob("*.tsv"))
    for path in paths:
        _read_qrels(path, number_of, out)
    if not out.labels and not out.bad:
        raise InputError("no labels", where=folder / QRELS, hint="Expected train.tsv, dev.tsv or test.tsv with rows.")
    return out


def _read_qrels(path: Path, number_of: dict[str, int], out: Labels) -> None:
    split = SPLIT_NAMES.get(path.stem.lower())
    if split is None:
        raise InputError(f"unknown split {path.stem!r}", where=path, hint="Names are train.tsv, dev.tsv and test.tsv.")
    with open_lines(path, "qrels") as lines:
        for line in lines:
            cells = [cell.strip() for cell in line.split("\t")]
            if not line.strip() or (lines.number == 1 and cells[-1:] == HEADER[-1:]):
                continue
            where, row = f"{path}:{lines.number}", dict(zip(HEADER, cells, strict=False))
            if len(cells) != len(HEADER):
                what = f"expected query-id, corpus-id and score between tabs, got {line[:80]!r}"
                out.bad.append(BadRow(where, what, row))
            elif cells[0] not in number_of:
                out.bad.append(BadRow(where, f"no query has the id {cells[0]!r}", row))
            else:
                try:
                    score = parse_score(cells[2], f"{where}: score")
                    out.labels.append(Label(number_of[cells[0]], cells[1], score, split, where, row))
                except InputError as error:
                    out.bad.append(BadRow(error.where or where, error.what, row))


def _read_corpus(path: Path) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """Return the documents and their POI table. The address is the text, after the title if the text lacks it."""
    documents, rows = [], []
    seen: set[str] = set()
    for where, row in _objects(path):
        poi_id, title, text = _id(row, where), _text(row, "title"), _text(row, "text")
        lng, lat, extra = _place(row, where)
        address = text if title in text else ",".join(part for part in (title, text) if part)
        _check(f"the document {poi_id}", address, poi_id in seen, where)
        if is_missing(lng) or is_missing(lat):
            hint = 'Add "metadata": {"lng": …, "lat": …}, or give --pois FILE with the places by id.'
            raise InputError(f"the document {poi_id} has no coordinates", where=where, hint=hint)
        seen.add(poi_id)
        place = query_location(lng, lat, where)
        named = {"name": title} if title else {}
        own = {k: v for k, v in extra.items() if k not in ("poi_id", "address")}
        rows.append({"poi_id": poi_id, "address": address, "lng": place[0], "lat": place[1]} | named | own)
        documents.append(row)
    if not rows:
        raise InputError("the file contains no documents", where=path, hint="Write a document a line.")
    pois = pd.DataFrame(rows)
    for name in pois.columns.difference(["lng", "lat"]):  # a column of .parquet has one type
        pois[name] = [None if is_missing(v) else v if isinstance(v, str) else json.dumps(v) for v in pois[name]]
    return documents, pois


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, row in iter_json_lines(path):
        yield f"{path}:{number}", row


def _check(name: str, text: str, repeated: bool, where: str) -> None:
    """Raise InputError for an object without text or with the id of an earlier one."""
    if not text or repeated:
        what = "appears twice" if text else "has no text"
        raise InputError(f"{name} {what}", where=where, hint="Correct or delete the line.")


def _id(row: dict[str, Any], where: str) -> str:
    own = id_text(row.get("_id"))
    if not own:
        raise InputError("the object has no _id", where=where, hint="Add a text or a number as _id.")
    return own


def _text(row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    return value.strip() if isinstance(value, str) else ""


def _place(row: dict[str, Any], where: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return longitude and latitude of the metadata, not checked, and the other metadata."""
    metadata = row.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise InputError(f"expected an object, got {str(metadata)[:80]!r}", where=f"{where}: metadata")
    names = {name.lower(): name for name in metadata}
    lng, lat = (next((names[n] for n in own if n in names), None) for own in (ROLES["lng"], ROLES["lat"]))
    extra = {name: value for name, value in metadata.items() if name not in (lng, lat)}
    return (metadata.get(lng) if lng else None), (metadata.get(lat) if lat else None), extra


def write_beir(labels: Labels, pois: pd.DataFrame, splits: Sequence[str], folder: Path) -> list[Path]:
    """Write labels and their POI table as a new BEIR folder, atomically; return its files.

    Queries without id are numbered from 1. A POI becomes a document: the address is the text, coordinates and other
    columns are the metadata. The documents of a BEIR source are not changed.

    Args:
        labels: The labels.
        pois: POI table.
        splits: Split of each query.
        folder: The folder, which must be new or empty.

    Raises:
        InputError: The folder has files or is not writable, or a score is no whole number.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("this is not an empty folder", where=folder, hint="Give --beir another folder.")
    fraction = next((label for label in labels.labels if not float(label.score).is_integer()), None)
    if fraction is not None:
        what = f"the label {fraction.score:g} is not a whole number, which BEIR needs"
        raise InputError(what, where=fraction.where, hint="Write labels as 0, 1, 2, …")
    ids = _query_ids(labels.queries)
    documents = labels.documents if labels.documents is not None else _documents(pois)
    files = [CORPUS, QUERIES]
    with atomic_folder(folder) as temporary:
        (temporary / QRELS).mkdir()
        _write_lines(temporary / CORPUS, documents)
        _write_lines(temporary / QUERIES, map(_query, labels.queries, ids))
        for split, name in FILE_OF.items():
            rows = [label for label in labels.labels if splits[label.query] == split]
            if rows:
                text = ["\t".join(HEADER), *(f"{ids[r.query]}\t{r.poi_id}\t{int(r.score)}" for r in rows)]
                (temporary / QRELS / name).write_text("\n".join(text) + "\n", encoding="utf-8")
                files.append(f"{QRELS}/{name}")
        if folder.exists():
            folder.rmdir()
    return [folder / name for name in files]


def _query_ids(queries: Sequence[LabelledQuery]) -> list[str]:
    """Return the ids of the queries if all have one and all differ, else their numbers from 1."""
    own = [query.query_id or "" for query in queries]
    if all(own) and len(set(own)) == len(own):
        return own
    return [str(number) for number in range(1, len(queries) + 1)]


def _query(query: LabelledQuery, query_id: str) -> dict[str, Any]:
    place = {} if query.lng is None else {"lng": query.lng, "lat": query.lat}
    return {"_id": query_id, "text": query.text, "metadata": place | query.extra}


def _documents(pois: pd.DataFrame) -> Iterator[dict[str, Any]]:
    others = [name for name in pois.columns if name not in ("poi_id", "address", "lng", "lat")]
    for row in pois.to_dict("records"):
        own = {name: row[name] for name in others if not is_missing(row[name])}
        yield {
            "_id": id_text(row["poi_id"]),
            "title": "",
            "text": row["address"],
            "metadata": {"lng": row["lng"], "lat": row["lat"]} | own,
        }


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    """Return a value of a data frame as a JSON value."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for end in ("", ".gz") if (path := folder / f"{name}{end}").is_file()), None)


def _found(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise InputError(f"no {name}", where=folder, hint=HINT)
    return path
