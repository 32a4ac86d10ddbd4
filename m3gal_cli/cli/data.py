"""``m3gal data``: make tables of views, POIs and records, and inspect them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m3gal_cli.cli import data_inspect, data_labels, data_pois
from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import note, print_summary
from m3gal_cli.cli.options import AS_JSON, argument, option, switch, with_options
from m3gal_cli.cli.progress import stage_progress

if TYPE_CHECKING:
    from m3gal_cli.osm.build import OsmOptions

app = typer.Typer(
    no_args_is_help=True, help="Make and inspect tables: osm, table, pois, labels, geotes, sample, inspect."
)
SELECTION = "Selection of places"
KINDS_SHOWN = 12

OUTPUT = option("--output -o", Path, "Output folder.", default=Path("data"))
DATUM = option("--datum", str, data_inspect.DATUM, default="wgs84")
PLACE = "Keep the places in this boundary of the extract."
NODE_STORE = "Keep node locations in this file, for extracts larger than memory."
BOX = "Keep the places inside this box: west,south,east,north, degrees."
LIMIT = "Keep this many places, spread over space and categories, e.g. 500 or 100k."
NEGATIVES = "Negatives per record (default: all those of the record, or 39 mined ones)."
CITY_OPTIONS = (
    OUTPUT,
    option("--suffix", str, "Suffix of the file names (default: the name of the input)."),
    option("--locale", str, "auto, zh, en, neutral, or the YAML file of a locale.", default="auto"),
    DATUM,
    option("--bbox", str, BOX, SELECTION, metavar="W,S,E,N"),
    option("--polygon", Path, "Keep the places inside this GeoJSON polygon.", SELECTION, metavar="FILE"),
    option("--limit", str, LIMIT, SELECTION, metavar="COUNT"),
    option("--seed", int, "Random seed for views, noise, splits and samples.", default=2023),
    option("--negatives", int, "Negatives per candidate record.", default=39),
    option("--pairs", int, "Maximum number of view pairs per place.", default=8),
    option("--noise", float, "Strength of the typed-query noise, 0 to 1.", default=0.5),
    option("--without", list[str], "Leave out these kinds of views, e.g. corner_*,told.", metavar="KINDS"),
    option("--train-queries", int, "Number of training records.", default=3000),
    option("--val-queries", int, "Number of validation records.", default=500),
    option("--test-queries", int, "Number of test records.", default=1000),
    AS_JSON,
)


@app.command("osm")
@with_options(
    argument("extract", "OpenStreetMap extract: .osm.pbf, .osm, .osm.gz or .osm.bz2."),
    option("--place", str, PLACE, SELECTION, metavar="NAME"),
    option("--node-store", Path, NODE_STORE, metavar="FILE"),
    *CITY_OPTIONS,
)
def osm(values: dict[str, Any]) -> None:
    """Make views, a POI table and train, val and test records from an OpenStreetMap extract."""
    extract = values["extract"]
    options = _city_options(values, values["suffix"] or extract.name.split(".")[0], values["place"])
    _build(extract, replace(options, node_store=values["node_store"]), values)


@app.command("table")
@with_options(argument("pois", "POI table of any format and schema."), *CITY_OPTIONS, o.COLUMNS, o.SKIP_BAD)
def table(values: dict[str, Any]) -> None:
    """Make views and train, val and test records from your own POI table, without a map.

    Address texts have the form "name,kind,...,street and number,district". They are composed of the columns of the
    table, if it has no such column. Views use the parts that an address has.
    """
    from m3gal_cli.files import stem_of
    from m3gal_cli.poi_source import bad_rows_file

    pois = values["pois"]
    options = replace(_city_options(values, values["suffix"] or stem_of(pois)), table=True, columns=values["columns"])
    if values["skip_bad"]:
        options = replace(options, bad_rows=bad_rows_file(pois, values["output"]))
    _build(pois, options, values)


def _city_options(values: dict[str, Any], suffix: str, place: str | None = None) -> OsmOptions:
    """Return the options of ``osm`` and ``table`` as one object. Raises InputError."""
    from m3gal_cli.geo.datums import check_datum
    from m3gal_cli.geo.filters import parse_box
    from m3gal_cli.osm.build import OsmOptions
    from m3gal_cli.osm.selection import Selection, parse_count

    bbox, limit = values["bbox"], values["limit"]
    same_names = ("locale", "seed", "noise", "negatives", "train_queries", "val_queries", "test_queries")
    without = [kind.strip() for text in values["without"] or () for kind in text.split(",")]
    return OsmOptions(
        **{name: values[name] for name in same_names},
        suffix=suffix,
        datum=check_datum(values["datum"]),
        selection=Selection(None if bbox is None else parse_box(bbox, crossing=False), values["polygon"], place),
        limit=None if limit is None else parse_count(limit),
        without=tuple(kind for kind in without if kind),
        max_pairs_per_place=values["pairs"],
    )


def _build(source: Path, options: OsmOptions, values: dict[str, Any]) -> None:
    """Build the tables of a city and print a summary."""
    from m3gal_cli.osm.build import build_city

    with stage_progress() as progress:
        summary = build_city(source, values["output"], options, progress)
    names = f", names also in {', '.join(summary.languages)}" if summary.languages else ""
    facts = [
        ("places", f"{summary.places:,}"),
        ("duplicates", f"{summary.groups:,} groups of places with equal text"),
        ("view pairs", f"{summary.pairs:,}"),
        ("kinds of pairs", _kinds(summary.kinds)),
        *((f"{split} queries", f"{count:,}") for split, count in summary.queries.items()),
        ("negatives", ", ".join(f"{name} {count:,}" for name, count in summary.negatives.items())),
        ("locale", summary.locale + names),
        ("seconds", f"{summary.seconds:.1f}"),
        ("written", "\n".join(summary.files)),
    ]
    print_summary(summary, source.name, facts, values["json"])


def _kinds(kinds: dict[str, int]) -> str:
    """Return the most frequent kinds of pairs with their counts, and the number of others."""
    rows = [f"{kind} {count:,}" for kind, count in list(kinds.items())[:KINDS_SHOWN]]
    others = len(kinds) - KINDS_SHOWN
    return ", ".join(rows) + (f", {others} others (--json has all)" if others > 0 else "")


@app.command("geotes")
@with_options(
    argument("source", "Folder with {train,dev,test}_dataset.jsonl, or one .pth or .jsonl file."),
    OUTPUT,
    DATUM,
    option("--negatives", int, NEGATIVES),
    switch("--mine", "Mine the negatives of the training records from all POIs."),
    switch("--mine-all", "Mine the negatives of all records from all POIs."),
    option("--seed", int, "Random seed for the mined negatives.", default=2023),
    AS_JSON,
)
def geotes(values: dict[str, Any]) -> None:
    """Make the published file tree from GeoTES, or import a dataset that the published code pickled."""
    from m3gal_cli.data.geotes import SPLITS, GeotesOptions, build_geotes
    from m3gal_cli.geo.datums import check_datum

    mine_all = values["mine_all"]
    mined = SPLITS if mine_all else ("train",)
    options = GeotesOptions(
        check_datum(values["datum"]), values["negatives"], values["mine"] or mine_all, mined, values["seed"]
    )
    with stage_progress() as progress:
        summary = build_geotes(values["source"], values["output"], options, progress)
    print_summary(summary, "written", [(str(f.path), f"{f.rows:,} {f.kind}") for f in summary.files], values["json"])


@app.command("sample")
@with_options(OUTPUT)
def sample(values: dict[str, Any]) -> None:
    """Copy the bundled sample city, an OpenStreetMap extract of Helsinki, and print its path."""
    from m3gal_cli.data.sample import copy_sample

    path = copy_sample(values["output"])
    note(f"© OpenStreetMap contributors, ODbL 1.0. Next: m3gal data osm {path}")
    typer.echo(str(path))


app.command("pois")(data_pois.pois)
app.command("labels")(data_labels.labels)
app.command("inspect")(data_inspect.inspect)
