"""The answers of ``predict --table`` as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from m3gal_cli.cli.console import out

if TYPE_CHECKING:
    from m3gal_cli.matching.matcher import Answer
    from m3gal_cli.matching.writers import Failure


class TableWriter:
    """Collects answers and prints them as one table at the end, when the column widths are known."""

    def __init__(self, columns: Sequence[str] = ()) -> None:
        self._columns = columns
        self._answers: list[Answer | Failure] = []

    def text(self, answers: Sequence[Answer | Failure]) -> str:
        """Keep a batch of answers; return no text."""
        self._answers += answers
        return ""

    def end(self) -> str:
        """Print the table; return no text."""
        if self._answers:
            out().print(answers_table(self._answers, self._columns))
        return ""


def answers_table(answers: Sequence[Answer | Failure], columns: Sequence[str] = ()) -> Table:
    """Return a table with a row per match; ``columns`` are further columns of the POI table."""
    from m3gal_cli.matching.matcher import MATCH_KEYS, column_name

    own = {name: column_name(name, MATCH_KEYS, "poi") for name in columns}
    distances = any("matches" in answer and any("distance_m" in m for m in answer["matches"]) for answer in answers)
    table = Table(title="answers", title_justify="left")
    table.add_column("query", style="bold", overflow="fold")
    table.add_column("#", justify="right")
    table.add_column("address", overflow="fold", ratio=1)
    for name in ("lng", "lat", "score", *(("distance",) if distances else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for name in own:
        table.add_column(escape(name), overflow="fold")
    for answer in answers:
        if "matches" not in answer:
            table.add_row(f"line {answer['line']}", "", escape(answer["error"]), end_section=True)
            continue
        if not answer["matches"]:
            table.add_row(escape(answer["query"]), "", "[dim]no match[/]", end_section=True)
        for match in answer["matches"]:
            query = escape(answer["query"]) if match["rank"] == 1 else ""
            cells = [query, str(match["rank"]), escape(match["address"])]
            cells += [f"{match['lng']:.5f}", f"{match['lat']:.5f}", f"{match['score']:.3f}"]
            if distances:
                cells.append(f"{match['distance_m']:,.0f} m" if "distance_m" in match else "")
            values = [match.get(key) for key in own.values()]
            cells += ["" if value is None else escape(str(value)) for value in values]
            table.add_row(*cells, end_section=match is answer["matches"][-1])
    return table
