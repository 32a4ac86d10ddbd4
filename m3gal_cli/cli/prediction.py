"""What ``predict`` does: an index opened or built, queries answered as they come."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from m3gal_cli.cli import evaluation as e
from m3gal_cli.cli.console import note, out, undisturbed
from m3gal_cli.cli.progress import RowProgress
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    from m3gal_cli.data.queries import BadQuery, QueryStream
    from m3gal_cli.geo.filters import Box
    from m3gal_cli.index.builder import Share
    from m3gal_cli.matching.matcher import Answer, Matcher
    from m3gal_cli.matching.writers import Failure, Writer

LOOKED_AT = 1000  # queries of a file that are read before the work, so that it is not in vain


class Form(StrEnum):
    """Formats of queries and of answers."""

    jsonl = "jsonl"
    csv = "csv"
    geojson = "geojson"


@dataclass(frozen=True)
class Wish:
    """What was asked for, checked."""

    source: Path | None  # None: stdin
    form: Form
    output: Path | None
    output_form: Form
    table: bool
    skip_bad: bool
    within_km: float | None
    box: Box | None

    @contextmanager
    def queries(self) -> Iterator[QueryStream]:
        """The queries, from the first on."""
        from m3gal_cli.data.lines import LONGEST, open_lines
        from m3gal_cli.data.queries import QueryStream

        source: Any = self.source or sys.stdin
        if source is None:
            raise InputError("stdin is closed", hint="Give a file of queries.")
        longest = None if self.form == Form.geojson else LONGEST
        with open_lines(source, "file of queries", longest) as lines:
            yield QueryStream(lines, self.form.value, self.skip_bad)


def run(values: dict[str, Any]) -> None:
    """The command, its options by name. Raises InputError."""
    wish = None if values["build_only"] else checked(values)
    session = e.open_session(values, load=False)
    with RowProgress("encoding POIs") as progress:
        index = session.index(progress, share_of(os.environ))
    if index is None:
        return
    with RowProgress("preparing the search") as progress:
        matcher = session.matcher(index, progress)
    if wish is not None:
        answer_all(wish, matcher, session.config.eval.top_k)


def checked(values: dict[str, Any]) -> Wish:
    """The options of this command alone. Raises InputError; looks at the beginning of a file of queries."""
    from m3gal_cli.data.lines import is_stream
    from m3gal_cli.data.queries import format_of
    from m3gal_cli.files import probe_folder
    from m3gal_cli.geo.filters import parse_box

    table, output, within_km = values["table"], values["output"], values["within_km"]
    if table and output is not None:
        raise InputError("--table and --output exclude each other", hint="The file takes JSON lines.")
    if table and values["output_format"]:
        raise InputError("--table and --output-format exclude each other", hint="A table is for reading.")
    if within_km is not None and not 0 < within_km < math.inf:
        raise InputError(f"--within-km {within_km:g} is no distance", hint="Give kilometres, more than 0.")
    source = None if str(values["queries"]) == "-" else values["queries"]
    form = values["input_format"] or Form(format_of(source) if source else "jsonl")
    output_form = values["output_format"] or Form(format_of(output) if output else "jsonl")
    box = None if values["bbox"] is None else parse_box(values["bbox"])
    wish = Wish(source, form, output, output_form, table, values["skip_bad"], within_km, box)
    if output is not None:
        probe_folder(output.parent)
    if source is not None and not is_stream(source):
        with wish.queries() as stream:
            for _ in islice(stream, LOOKED_AT):
                pass
    return wish


def share_of(environment: Any) -> Share:
    """Which of torchrun's processes this one is."""
    from m3gal_cli.index.builder import Share

    try:
        rank, world = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    except (KeyError, ValueError):
        return Share()
    return Share(rank, world) if 0 <= rank < world else Share()


def answer_all(wish: Wish, matcher: Matcher, top_k: int) -> None:
    """Answer the queries as they come. Raises InputError at the first broken one, once all before it are answered."""
    from m3gal_cli.data.queries import Query

    asked = without_place = bad = 0
    with wish.queries() as stream, _opened(wish.output) as write, RowProgress("answering") as progress:
        writer = _writer(wish)
        try:
            for batch in stream.batches():
                queries = [item for item in batch if isinstance(item, Query)]
                asked, bad = asked + len(queries), bad + len(batch) - len(queries)
                without_place += sum(query.lng is None for query in queries)
                found = iter(matcher.answer(queries, top_k, wish.within_km, wish.box) if queries else ())
                write(writer.text([next(found) if isinstance(item, Query) else _failure(item) for item in batch]))
                if wish.output is not None or not sys.stdout.isatty():
                    progress(asked + bad, 0)
        finally:  # also what was interrupted, or refused, can be read
            write(writer.end())
    if bad:
        note(f"{bad:,} of {asked + bad:,} queries are broken: each has an error in the place of its matches")
    if wish.within_km is not None and without_place:
        note(f"{without_place:,} of {asked:,} queries say no place: answered without --within-km {wish.within_km:g}")


def _failure(bad: BadQuery) -> Failure:
    return {"id": bad.id, "line": bad.line, "error": bad.error}


@contextmanager
def _opened(output: Path | None) -> Iterator[Callable[[str], Any]]:
    """Where answers go: a file, which is whole or absent, or stdout, which gets whole lines whatever happens."""
    if output is None:
        yield _to_stdout
        return
    from m3gal_cli.files import atomic_text

    with atomic_text(output) as file:
        yield file.write


def _to_stdout(text: str) -> None:
    left = memoryview(text.encode())
    if left:
        with undisturbed():
            sys.stdout.flush()
            while left:  # unbuffered, stdout may take a part alone
                left = left[sys.stdout.buffer.write(left) or 0 :]
            sys.stdout.flush()


def _writer(wish: Wish) -> Writer:
    from m3gal_cli.matching.writers import answer_writer

    return _TableWriter() if wish.table else answer_writer(wish.output_form.value, wish.skip_bad)


class _TableWriter:
    """Prints a table of all answers at the end, when the widths are known."""

    def __init__(self) -> None:
        self._answers: list[Answer | Failure] = []

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        self._answers += answers
        return ""

    def end(self) -> str:
        if self._answers:
            out().print(answers_table(self._answers))
        return ""


def answers_table(answers: Sequence[Answer | Failure]) -> Table:
    """A row a match."""
    distances = any("matches" in answer and any("distance_m" in m for m in answer["matches"]) for answer in answers)
    table = Table(title="answers", title_justify="left")
    table.add_column("query", style="bold", overflow="fold")
    table.add_column("#", justify="right")
    table.add_column("place", overflow="fold", ratio=1)
    for name in ("lng", "lat", "score", *(("distance",) if distances else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for answer in answers:
        if "matches" not in answer:
            table.add_row(f"line {answer['line']}", "", escape(answer["error"]), end_section=True)
            continue
        if not answer["matches"]:
            table.add_row(escape(answer["query"]), "", "[dim]no place[/]", end_section=True)
        for match in answer["matches"]:
            first = match["rank"] == 1
            cells = [escape(answer["query"]) if first else "", str(match["rank"]), escape(match["address"])]
            cells += [f"{match['lng']:.5f}", f"{match['lat']:.5f}", f"{match['score']:.3f}"]
            if distances:
                cells.append(f"{match['distance_m']:,.0f} m" if "distance_m" in match else "")
            table.add_row(*cells, end_section=match is answer["matches"][-1])
    return table
