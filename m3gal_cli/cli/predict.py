"""``m3gal predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.prediction import Form, run

SEARCH, FORMS = "Search", "Formats"

TopK = Annotated[int | None, typer.Option("--top-k", "-k", help="Matches a query (default: 5).")]
Queries = Annotated[
    Path | None,
    typer.Argument(
        help='Plain text or {"query", "id"?, "lng"?, "lat"?} a line, CSV or GeoJSON; - is stdin.',
        allow_dash=True,
        show_default=False,
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="File instead of stdout; whole or absent.")]
InputForm = Annotated[
    Form | None, typer.Option("--format", help="Of the queries (default: by suffix).", rich_help_panel=FORMS)
]
OutputForm = Annotated[
    Form | None,
    typer.Option(
        "--output-format", help="Of the answers (default: by suffix of --output, else jsonl).", rich_help_panel=FORMS
    ),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Answer a broken line with an error, and go on.", rich_help_panel=FORMS)
]
Datum = Annotated[
    str | None, typer.Option("--datum", help="Of the POI table: wgs84, gcj02 or bd09; queries are in WGS-84.")
]
IndexDir = Annotated[
    str | None,
    typer.Option(
        help="Folder of the POIs' vectors (default: index/TABLE in the run, else here).", rich_help_panel=SEARCH
    ),
]
Kind = Annotated[
    str | None, typer.Option("--index", help="exact, ann, milvus or auto (default: auto).", rich_help_panel=SEARCH)
]
Uri = Annotated[str | None, typer.Option(help="Milvus server, or file of Milvus Lite.", rich_help_panel=SEARCH)]
Recall = Annotated[
    float | None, typer.Option(help="Of ann: share of the exact answer (default: 0.95).", rich_help_panel=SEARCH)
]
Runtime = Annotated[
    str | None,
    typer.Option(
        "--encoder-runtime",
        help="Of queries: torch, onnx or onnx-int8 (pip install 'm3gal\\[onnx]') (default: torch).",
        rich_help_panel=SEARCH,
    ),
]
LinearReranker = Annotated[
    bool | None,
    typer.Option(
        "--hybrid/--no-hybrid",
        help="Score the best 1000 again by words, neighbours and the typed place (default: if learned).",
        rich_help_panel=SEARCH,
    ),
]
WithinKm = Annotated[
    float | None, typer.Option(help="Only places so near to where a query was typed.", rich_help_panel=SEARCH)
]
Bbox = Annotated[
    str | None, typer.Option(metavar="W,S,E,N", help="Only places in this box, degrees.", rich_help_panel=SEARCH)
]
BuildOnly = Annotated[
    bool, typer.Option("--build-only", help="Encode the POI table and leave; no QUERIES.", rich_help_panel=SEARCH)
]


def command(
    context: typer.Context,
    queries: Queries = None,
    checkpoint: o.CheckpointPath = None,
    poi_database_filepath: o.PoiPath = None,
    top_k: TopK = None,
    within_km: WithinKm = None,
    bbox: Bbox = None,
    table: Annotated[bool, typer.Option("--table", help="A table for reading.", rich_help_panel=FORMS)] = False,
    output: Output = None,
    input_format: InputForm = None,
    output_format: OutputForm = None,
    skip_bad: SkipBad = False,
    index: Kind = None,
    index_dir: IndexDir = None,
    uri: Uri = None,
    recall: Recall = None,
    encoder_runtime: Runtime = None,
    reranker: LinearReranker = None,
    build_only: BuildOnly = False,
    data_dir: o.DataDir = None,
    data_suffix: o.DataSuffix = None,
    datum: Datum = None,
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
    """Answer queries with the places that they mean, one JSON object a line, in the order of the input.

    The POI table is encoded once, into an index that later calls take; started by torchrun, the processes share that.
    """
    if queries is None and not build_only:
        raise typer.BadParameter("Missing: a file of queries, - for stdin, or --build-only.", context)
    run(locals())
