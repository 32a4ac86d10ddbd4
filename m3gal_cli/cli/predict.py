"""``m3gal predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3gal_cli.cli import options as o
from m3gal_cli.cli.options import argument, option, switch, with_options
from m3gal_cli.cli.predict_run import FileFormat, run

SEARCH, FORMATS = "Search", "Formats"
QUERIES = (
    "Query texts, or one file of queries: text or {'query', 'id'?, 'lng'?, 'lat'?} per line, CSV or GeoJSON; - is "
    "stdin. An argument without the suffix of such a file, and which is no file, is a text."
)
DATUM = "Datum of the POI table: wgs84, gcj02 or bd09. Query locations are WGS-84."
SKIP_BAD = "Answer a broken query with an error, leave out invalid rows of the POI table, and continue."
WITH = "Columns of the POI table to add to the matches, e.g. phone,opening_hours, or all."
BOX = "Keep only POIs inside this box: west,south,east,north, degrees."
MIN_SCORE = "Leave out matches with a lower score, e.g. 0.5. A query that means no POI of the table then has no match."
OUTPUT_FORMAT = "Format of the answers (default: by suffix of --output, else jsonl)."
RUNTIME = (
    "Query encoder runtime: torch, onnx or onnx-int8 (pip install 'm3gal\\[onnx]') (default: onnx-int8 for the "
    "packaged model, else torch)."
)


@with_options(
    argument("queries", QUERIES, kind=list[str] | None, default=None),
    o.CHECKPOINT,
    o.POIS,
    o.COLUMNS,
    option("--top-k -k", int, "Matches per query (default: 5)."),
    option("--within-km", float, "Keep only POIs within this distance of the query location, in km.", SEARCH),
    option("--min-score", float, MIN_SCORE, SEARCH),
    option("--bbox", str, BOX, SEARCH, metavar="W,S,E,N"),
    option("--with", list[str], WITH, metavar="COLUMNS"),
    switch("--table", "Print a table instead of JSON lines.", FORMATS),
    option("--output -o", Path, "Write the answers to this file, which appears only when complete."),
    option("--format", FileFormat, "Format of the queries (default: by suffix).", FORMATS),
    option("--output-format", FileFormat, OUTPUT_FORMAT, FORMATS),
    option("--skip-bad", bool, SKIP_BAD),
    o.RERANK,
    option("--index", str, "Search method: auto, exact, ann or milvus (default: auto).", SEARCH),
    o.INDEX_DIR,
    option("--uri", str, "Milvus server (http://HOST:19530) or file of Milvus Lite.", SEARCH),
    option("--recall", float, "Target recall of ann against exact search (default: 0.95).", SEARCH),
    option("--encoder-runtime", str, RUNTIME, SEARCH),
    option("--build-only", bool, "Earlier name of m3gal index build.", SEARCH, default=False, hidden=True),
    o.DATA_DIR,
    o.DATA_SUFFIX,
    option("--datum", str, DATUM, o.DATA),
    o.CONFIG,
    o.SETS,
    o.TEXT_ENCODER,
    o.RUNS_DIR,
    o.SEED,
    o.DEVICE,
    o.GPU,
    other_names=True,
)
def command(values: dict[str, Any]) -> None:
    """Match queries to the POIs of a table: one JSON object per query, in the order of the input.

    Without a run in runs/ and without --checkpoint, the packaged model answers. The POI table is encoded once, into an
    index that later calls reuse and bring up to date (see m3gal index). With --index-dir alone, model and POIs are
    those of the index.
    """
    run(values)
