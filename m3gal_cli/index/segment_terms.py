"""The terms of the addresses of a segment, and the postings of their n-grams, as files that are memory-mapped.

terms/
  terms.json        version of the terms and number of rows; written last
  NAME.npy, ...     the arrays of ``Terms``
  postings/         the arrays of ``Postings``
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from m3gal_cli.files import publish_folder, read_json, remove_folder, write_json
from m3gal_cli.text.postings import Postings
from m3gal_cli.text.terms import TERMS_VERSION, Lists, Terms

FOLDER, RECORD, POSTINGS = "terms", "terms.json", "postings"
BLOCK_ROWS = 8192


class SegmentTerms(NamedTuple):
    """The terms of the rows of a segment, and the postings of their n-grams."""

    terms: Terms
    postings: Postings


def write_terms(folder: Path, parts: Iterable[Terms]) -> None:
    """Write the terms of consecutive rows and their postings to a new folder, part by part. Raises OSError."""
    folder.mkdir()
    size = 0
    with ExitStack() as stack:
        files: dict[str, _ArrayFile] = {}

        def append(name: str, values: NDArray[Any]) -> None:
            if name not in files:
                files[name] = stack.enter_context(_ArrayFile(folder / f"{name}.npy", values))
            files[name].append(values)

        totals: dict[str, int] = {}
        for part in parts:
            for field in fields(part):
                lists: Lists = getattr(part, field.name)
                total = totals.get(field.name)
                append(f"{field.name}.starts", lists.starts if total is None else lists.starts[1:] + total)
                append(field.name, lists.values)
                totals[field.name] = (total or 0) + len(lists.values)
            size += len(part)
    Postings.write(folder / POSTINGS, Terms.open(folder).ngrams)
    write_json(folder / RECORD, {"version": TERMS_VERSION, "rows": size})


def terms_of(addresses_at: Callable[[NDArray[np.int64]], list[str]], count: int) -> Iterator[Terms]:
    """Yield the terms of the addresses of ``count`` rows, block by block; one empty block for no rows."""
    for first in range(0, max(count, 1), BLOCK_ROWS):
        yield Terms.of(addresses_at(np.arange(first, min(first + BLOCK_ROWS, count))))


def open_terms(segment: Path, count: int, addresses_at: Callable[[NDArray[np.int64]], list[str]]) -> SegmentTerms:
    """Open the terms of a segment; compute them if they are missing, damaged or of another version.

    Computed terms are written to the folder of the segment, or kept in memory if that is not possible.

    Args:
        segment: Folder of the segment.
        count: Number of its rows.
        addresses_at: Returns the addresses of some rows.
    """
    folder = segment / FOLDER
    stored = _stored(folder, count)
    if stored is not None:
        return stored
    temporary = None
    with suppress(OSError):
        # The folder of the segment is never created: a writer may have removed it meanwhile.
        temporary = Path(tempfile.mkdtemp(dir=segment, prefix=f".{FOLDER}.", suffix=".tmp"))
        write_terms(temporary / FOLDER, terms_of(addresses_at, count))
        if folder.exists():
            remove_folder(folder)
        publish_folder(temporary / FOLDER, folder)
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
    stored = _stored(folder, count)  # another process may have written them
    if stored is not None:
        return stored
    terms = Terms.concatenate(list(terms_of(addresses_at, count)))
    return SegmentTerms(terms, Postings.of(terms.ngrams))


def has_terms(segment: Path, count: int) -> bool:
    """Return whether the terms of a segment of ``count`` rows are stored in the current version."""
    return bool(read_json(segment / FOLDER / RECORD) == {"version": TERMS_VERSION, "rows": count})


def _stored(folder: Path, count: int) -> SegmentTerms | None:
    """Return the stored terms; None if they are missing, damaged or of another version."""
    if not has_terms(folder.parent, count):
        return None
    with suppress(OSError, ValueError, EOFError, KeyError):
        terms, postings = Terms.open(folder), Postings.open(folder / POSTINGS)
        if len(terms) == count and len(postings.rows) == len(terms.ngrams.values):
            return SegmentTerms(terms, postings)
    return None


class _ArrayFile:
    """A .npy file to which rows are appended. Its header is written again at the end.

    Args:
        path: The file.
        example: An array of the same type and width.
    """

    def __init__(self, path: Path, example: NDArray[Any]) -> None:
        self._file, self._rows, self._example = path.open("wb"), 0, example[:0]
        self._write_header()

    def __enter__(self) -> _ArrayFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()

    def append(self, rows: NDArray[Any]) -> None:
        """Append rows. Shape: (n, ...)."""
        self._file.write(np.ascontiguousarray(rows, self._example.dtype).data)
        self._rows += len(rows)

    def _write_header(self) -> None:
        """Write the header. numpy leaves room for a longer number of rows."""
        shape = (self._rows, *self._example.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(self._example.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
