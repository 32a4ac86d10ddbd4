"""The run of ``predict``: check the options, open or build the index, answer the queries in input order."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.cli import evaluation as e
from m3gal_cli.cli.answers_table import TableWriter
from m3gal_cli.cli.console import delayed_interrupt, note, warn
from m3gal_cli.cli.progress import RowProgress
from m3gal_cli.errors import InputError
from m3gal_cli.files import suffix_of

if TYPE_CHECKING:
    from m3gal_cli.data.queries import BadQuery, QueryStream
    from m3gal_cli.geo.filters import Box
    from m3gal_cli.index.builder import Worker
    from m3gal_cli.matching.matcher import Matcher
    from m3gal_cli.matching.session import Session
    from m3gal_cli.matching.writers import Failure

FILE_SUFFIXES = {".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".geojson", ".geojsonl", ".gz", ".parquet"}
CHECKED_FIRST = 1000  # queries of a file that are checked before the index is built


class FileFormat(StrEnum):
    """Formats of queries and of answers."""

    jsonl = "jsonl"
    csv = "csv"
    geojson = "geojson"


@dataclass(frozen=True)
class PredictOptions:
    """The checked options of ``predict``."""

    source: Path | None  # file of queries; None: stdin, or the texts
    texts: Sequence[str]  # queries that are arguments
    input_format: FileFormat
    output: Path | None  # file of answers; None: stdout
    output_format: FileFormat
    table: bool  # print a table instead
    skip_bad: bool  # answer a broken line with an error instead of stopping
    within_km: float | None  # maximum distance of a match from the query location
    box: Box | None  # contains all matches
    columns: tuple[str, ...]  # further columns of the POI table in the answers
    min_score: float | None  # least score of a match

    @contextmanager
    def open_queries(self) -> Iterator[QueryStream]:
        """Open the queries. Raises InputError."""
        from m3gal_cli.data.lines import MAX_LINE_BYTES, Lines, open_lines
        from m3gal_cli.data.queries import QueryStream

        source: Any = self.source or sys.stdin
        if self.texts:
            content = "\n".join(" ".join(text.split()) for text in self.texts).encode("utf-8", "surrogateescape")
            source, name = BytesIO(content), "argument"
            yield QueryStream(Lines(source.read1, name, live=False), "jsonl", self.skip_bad)
            return
        if source is None:
            raise InputError("stdin is closed", hint="Give a file of queries.")
        longest = None if self.input_format == FileFormat.geojson else MAX_LINE_BYTES
        with open_lines(source, "file of queries", longest, self._encoding) as lines:
            yield QueryStream(lines, self.input_format.value, self.skip_bad)

    @cached_property
    def _encoding(self) -> str:
        """Return the encoding of a CSV file, recognised by its content; UTF-8 of other formats and of streams."""
        from m3gal_cli.data.lines import is_stream

        source = self.source
        if source is None or self.input_format != FileFormat.csv or is_stream(source) or not source.is_file():
            return "utf-8"
        from m3gal_cli.data.formats.encodings import encoding_name, recognise_encoding
        from m3gal_cli.data.formats.source import Source

        encoding = recognise_encoding(Source(source, str(source)))
        if encoding != "utf-8":
            note(f"{source}: read as {encoding_name(encoding)}")
        return encoding


def run(values: dict[str, Any]) -> None:
    """Run the command with its options by parameter name. Raises InputError."""
    from m3gal_cli.geo.filters import swapped_box_warning

    if not values["queries"] and not values["build_only"]:
        hint = "Give texts, a file of queries, or - for stdin. m3gal index build only builds the index."
        raise InputError("no queries", hint=hint)
    options = None if values["build_only"] else check_options(values)
    session = e.open_session(values, load=False)
    matcher = prepare(session)
    if matcher is None or options is None:
        return
    index = matcher.index
    if options.box and (warning := swapped_box_warning(options.box, index.lng, index.lat)):
        warn(warning)
    answer_all(options, matcher, session.config.eval.top_k)


def prepare(session: Session) -> Matcher | None:
    """Open or build the index of a session and prepare its search; None in all processes but the first."""
    with RowProgress("encoding POIs") as progress:
        index = session.index(progress, this_worker(os.environ))
    if index is None:
        return None
    with RowProgress("preparing the search") as progress:
        return session.matcher(index, progress)


def check_options(values: dict[str, Any]) -> PredictOptions:
    """Return the options that only this command has; check the first queries of a file. Raises InputError."""
    from m3gal_cli.data.lines import is_stream
    from m3gal_cli.data.queries import format_of
    from m3gal_cli.files import probe_folder
    from m3gal_cli.geo.filters import parse_box
    from m3gal_cli.matching.writers import output_format

    table, output, within_km = values["table"], values["output"], values["within_km"]
    if table and output is not None:
        raise InputError("--table and --output exclude each other", hint="--table prints on stdout.")
    if table and values["output_format"]:
        raise InputError("--table and --output-format exclude each other", hint="Give one of them.")
    if within_km is not None and not 0 < within_km < math.inf:
        raise InputError(f"--within-km {within_km:g} is not a distance", hint="Give kilometres, more than 0.")
    min_score = values["min_score"]
    if min_score is not None and not math.isfinite(min_score):
        raise InputError(f"--min-score {min_score:g} is not a score", hint="Give a number, e.g. 0.5.")
    source, texts = query_source(values["queries"])
    options = PredictOptions(
        source,
        texts,
        values["format"] or FileFormat(format_of(source) if source else "jsonl"),
        output,
        values["output_format"] or FileFormat(output_format(output) if output else "jsonl"),
        table,
        bool(values["skip_bad"]),
        within_km,
        None if values["bbox"] is None else parse_box(values["bbox"]),
        tuple(name for text in values["with_"] or () for name in map(str.strip, text.split(",")) if name),
        min_score,
    )
    if output is not None:
        probe_folder(output.parent)
    if source is not None and not is_stream(source):
        with options.open_queries() as stream:
            for _ in islice(stream, CHECKED_FIRST):
                pass
    return options


def query_source(arguments: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """Return the file of queries (None: stdin) and the query texts among the arguments.

    Raises:
        InputError: One of several arguments is a file, or a text is empty.
    """
    files = [text for text in arguments if text == "-" or _is_file_name(text)]
    if empty := [number for number, text in enumerate(arguments, 1) if not text.strip()]:
        raise InputError(f"query {empty[0]} is empty", hint="Give texts that are not empty.")
    if not files:
        return None, arguments
    if len(arguments) > 1:
        what = f"{files[0]} is {'stdin' if files[0] == '-' else 'a file'}, and there are further arguments"
        raise InputError(what, hint="Give one file of queries, or query texts only.")
    return (None if files[0] == "-" else Path(files[0])), ()


def _is_file_name(text: str) -> bool:
    """Return whether a text is a file, has the suffix of a file of queries, or is a path in an existing folder."""
    from m3gal_cli.data.lines import is_stream

    path, folder = Path(text), os.path.dirname(text)
    if os.path.isfile(text) or is_stream(path):
        return True
    in_folder = bool(folder) and not any(map(str.isspace, text)) and os.path.isdir(folder)
    return in_folder or suffix_of(path) in FILE_SUFFIXES


def this_worker(environment: Any) -> Worker:
    """Return the rank and world size of this process from the variables that torchrun sets."""
    from m3gal_cli.index.builder import Worker

    try:
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    except (KeyError, ValueError):
        return Worker()
    return Worker(rank, world) if 0 <= rank < world else Worker()


def answer_all(options: PredictOptions, matcher: Matcher, top_k: int) -> None:
    """Answer the queries as they arrive.

    Raises:
        InputError: A broken query. All queries before it are answered.
    """
    from m3gal_cli.data.queries import Query
    from m3gal_cli.matching.writers import answer_writer, match_columns

    valid = unlocated = broken = 0
    columns = matcher.check_columns(options.columns)
    fields = match_columns("name" in matcher.index.columns, columns)
    with options.open_queries() as stream, _opened(options.output) as write, RowProgress("answering") as progress:
        writer = (
            TableWriter(columns)
            if options.table
            else answer_writer(options.output_format.value, fields, options.skip_bad, warn)
        )
        try:
            for batch in stream.batches():
                queries = [item for item in batch if isinstance(item, Query)]
                valid, broken = valid + len(queries), broken + len(batch) - len(queries)
                unlocated += sum(query.lng is None for query in queries)
                given = (top_k, options.within_km, options.box, columns, options.min_score)
                answers = iter(matcher.answer(queries, *given) if queries else ())
                write(writer.text([next(answers) if isinstance(item, Query) else _failure(item) for item in batch]))
                if options.output is not None or not sys.stdout.isatty():
                    progress(valid + broken, 0)
        finally:  # an interrupted output is complete up to its last answer
            write(writer.end())
    if broken:
        note(f"{broken:,} of {valid + broken:,} queries are broken; their answers have an error instead of matches")
    if options.within_km is not None and unlocated:
        note(f"{unlocated:,} of {valid:,} queries have no location; --within-km {options.within_km:g} was not applied")


def _failure(bad: BadQuery) -> Failure:
    return {"id": bad.id, "line": bad.line, "error": bad.error}


@contextmanager
def _opened(output: Path | None) -> Iterator[Callable[[str], Any]]:
    """Open the destination: a file, which appears only when complete, or stdout, which gets complete lines."""
    if output is None:
        yield _to_stdout
        return
    from m3gal_cli.files import atomic_text

    with atomic_text(output) as file:
        yield file.write


def _to_stdout(text: str) -> None:
    left = memoryview(text.encode())
    if left:
        with delayed_interrupt():
            sys.stdout.flush()
            while left:  # an unbuffered stdout may write a part
                left = left[sys.stdout.buffer.write(left) or 0 :]
            sys.stdout.flush()
