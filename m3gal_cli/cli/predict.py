"""``m3gal predict``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from m3gal_cli.cli import evaluating as e
from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import out, progress_bar
from m3gal_cli.errors import InputError

TopK = Annotated[int | None, typer.Option("--top-k", "-k", help="Matches a query.  [default: 5]")]
Queries = Annotated[
    Path, typer.Argument(help='Lines of plain text or {"query", "id"?, "lng"?, "lat"?}; - is stdin.', allow_dash=True)
]


def command(
    queries: Queries,
    checkpoint: o.CheckpointPath = None,
    poi_database_filepath: o.PoiPath = None,
    top_k: TopK = None,
    table: Annotated[bool, typer.Option("--table", help="A table for reading instead of JSON lines.")] = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File instead of stdout.")] = None,
    data_dir: o.DataDir = None,
    data_suffix: o.DataSuffix = None,
    datum: o.DatumName = None,
    config: o.ConfigName = None,
    set_: o.Sets = None,
    text_encoder: o.TextEncoder = None,
    runs_dir: o.RunsDir = None,
    seed: o.Seed = None,
    gpu: o.Gpu = None,
    device: o.Device = None,
    bert_from_local: o.BertFromLocal = False,
    moco_k: o.IgnoredInt = None,
    load_model: o.Ignored = False,
) -> None:
    """Answer queries with the places that they mean, one JSON object a line, in the order of the input."""
    from m3gal_cli.data.queries import read_queries

    if table and output is not None:
        raise InputError("--table and --output exclude each other", hint="The file takes JSON lines.")
    asked = read_queries(sys.stdin if str(queries) == "-" else queries)
    session = e.open_session(locals())
    from m3gal_cli.data.tables import read_pois
    from m3gal_cli.retrieval.match import Matcher

    settings = session.config
    pois = read_pois(e.poi_table_for(settings), settings.data.datum)
    with progress_bar() as bar:
        task = bar.add_task("encoding POIs", total=None, info="")
        matcher = Matcher(pois, session.embedder, lambda done, total: bar.update(task, completed=done, total=total))
    answers = matcher.match(asked, settings.eval.top_k)
    if table:
        out().print(_table(answers))
        return
    lines = (json.dumps(a, ensure_ascii=False) + "\n" for a in answers)
    if output is None:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
        return
    from m3gal_cli.data.files import atomic_text

    with atomic_text(output) as file:
        file.writelines(lines)


def _table(answers: list[dict[str, Any]]) -> Table:
    distances = any("distance_m" in m for a in answers for m in a["matches"])
    table = Table(title="answers", title_justify="left")
    table.add_column("query", style="bold", overflow="fold")
    table.add_column("#", justify="right")
    table.add_column("place", overflow="fold", ratio=1)
    for name in ("lng", "lat", "score", *(("distance",) if distances else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for answer in answers:
        for match in answer["matches"]:
            first = match["rank"] == 1
            cells = [escape(answer["query"]) if first else "", str(match["rank"]), escape(match["address"])]
            cells += [f"{match['lng']:.5f}", f"{match['lat']:.5f}", f"{match['score']:.3f}"]
            if distances:
                cells.append(f"{match['distance_m']:,.0f} m" if "distance_m" in match else "")
            table.add_row(*cells, end_section=match is answer["matches"][-1])
    return table
