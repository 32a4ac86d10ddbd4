"""``m3gal data``: extracts and GeoTES in, validated tables out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from m3gal_cli.cli import data_inspect
from m3gal_cli.cli.console import facts_table, note, out, print_json, progress_bar
from m3gal_cli.cli.options import AsJson

if TYPE_CHECKING:
    from m3gal_cli.osm.build import OsmOptions

app = typer.Typer(no_args_is_help=True, help="Make and look at tables: osm, table, geotes, sample, inspect.")

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")]


def where(about: str, metavar: str) -> Any:
    """An option of the panel that says which places to take."""
    return typer.Option(metavar=metavar, help=about, rich_help_panel="Which places")


DatumOption = Annotated[str, typer.Option(help="Datum of the input: wgs84, gcj02 or bd09.")]
Locale = Annotated[str, typer.Option(help="auto, zh, en, neutral, or a locale's YAML file.")]
Bbox = Annotated[str | None, where("Only places in this box, degrees.", "W,S,E,N")]
Polygon = Annotated[Path | None, where("Only places in this GeoJSON polygon.", "FILE")]
Limit = Annotated[str | None, where("So many places, spread over space and kind: 500, 100k.", "COUNT")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
Negatives = Annotated[int, typer.Option(help="Negatives a candidate record.")]
Pairs = Annotated[int, typer.Option(help="View pairs a place, at most.")]
Noise = Annotated[float, typer.Option(help="Strength of the typed-query noise, 0 to 1.")]
Without = Annotated[list[str] | None, typer.Option(metavar="KINDS", help="Leave out kinds of views: corner_*,told.")]
TrainQueries = Annotated[int, typer.Option(help="Records to finetune on.")]
ValQueries = Annotated[int, typer.Option(help="Records to validate on.")]
TestQueries = Annotated[int, typer.Option(help="Records to test on.")]


@app.command("osm")
def osm(
    extract: Annotated[Path, typer.Argument(help="An OpenStreetMap extract: .osm.pbf, .osm, .osm.gz, .osm.bz2.")],
    output: Output = Path("data"),
    suffix: Annotated[str | None, typer.Option(help="Ends the file names (default: the extract's name).")] = None,
    locale: Locale = "auto",
    datum: DatumOption = "wgs84",
    bbox: Bbox = None,
    polygon: Polygon = None,
    place: Annotated[str | None, where("Only places in this boundary of the extract.", "NAME")] = None,
    limit: Limit = None,
    seed: Seed = 2023,
    negatives: Negatives = 39,
    pairs: Pairs = 8,
    noise: Noise = 0.5,
    without: Without = None,
    node_store: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep node places on disk: for extracts beyond memory.")
    ] = None,
    train_queries: TrainQueries = 3000,
    val_queries: ValQueries = 500,
    test_queries: TestQueries = 1000,
    as_json: AsJson = False,
) -> None:
    """Turn an extract into views, a POI table and train / val / test candidate records."""
    options = _options(locals(), suffix or extract.name.split(".")[0])
    _build(extract, output, replace(options, node_store=node_store), as_json)


@app.command("table")
def table(
    pois: Annotated[Path, typer.Argument(help="A POI table with address, lng, lat: .csv, .parquet, .jsonl, also .gz.")],
    output: Output = Path("data"),
    suffix: Annotated[str | None, typer.Option(help="Ends the file names (default: the table's name).")] = None,
    locale: Locale = "auto",
    datum: DatumOption = "wgs84",
    bbox: Bbox = None,
    polygon: Polygon = None,
    limit: Limit = None,
    seed: Seed = 2023,
    negatives: Negatives = 39,
    pairs: Pairs = 8,
    noise: Noise = 0.5,
    without: Without = None,
    train_queries: TrainQueries = 3000,
    val_queries: ValQueries = 500,
    test_queries: TestQueries = 1000,
    as_json: AsJson = False,
) -> None:
    """Turn a POI table of your own, without a map, into views of its rows and train / val / test candidate records.

    An address reads "name,kind,...,street and number,district"; what it lacks is not told of.
    """
    from m3gal_cli.files import stem_of

    options = _options(locals(), suffix or stem_of(pois))
    _build(pois, output, replace(options, table=True), as_json)


def _options(given: dict[str, Any], suffix: str) -> OsmOptions:
    """What ``osm`` and ``table`` share. Raises InputError."""
    from m3gal_cli.geo.coordinates import check_datum
    from m3gal_cli.osm.build import OsmOptions
    from m3gal_cli.osm.selection import Selection, parse_bbox, parse_count

    bbox, limit = given["bbox"], given["limit"]
    without = [kind.strip() for text in given["without"] or () for kind in text.split(",")]
    return OsmOptions(
        locale=given["locale"],
        suffix=suffix,
        seed=given["seed"],
        datum=check_datum(given["datum"]),
        selection=Selection(None if bbox is None else parse_bbox(bbox), given["polygon"], given.get("place")),
        limit=None if limit is None else parse_count(limit),
        without=tuple(kind for kind in without if kind),
        noise=given["noise"],
        max_pairs_per_place=given["pairs"],
        negatives=given["negatives"],
        train_queries=given["train_queries"],
        val_queries=given["val_queries"],
        test_queries=given["test_queries"],
    )


def _build(source: Path, output: Path, options: OsmOptions, as_json: bool) -> None:
    from m3gal_cli.osm.build import build_city

    with progress_bar() as bar:
        task = bar.add_task("reading", total=None, info="")

        def tell(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total or None)

        summary = build_city(source, output, options, tell)
    for line in summary.notes:
        note(line)
    if as_json:
        print_json(summary.to_json())
        return
    facts = [("places", f"{summary.places:,}"), ("that read like others", f"{summary.groups:,} groups")]
    facts += [("view pairs", f"{summary.pairs:,}"), ("of kinds", _kinds(summary.kinds))]
    facts += [(f"{split} queries", f"{count:,}") for split, count in summary.queries.items()]
    facts += [("negatives", ", ".join(f"{source} {count:,}" for source, count in summary.negatives.items()))]
    also = f", names also in {', '.join(summary.languages)}" if summary.languages else ""
    facts += [("locale", summary.locale + also), ("seconds", f"{summary.seconds:.1f}")]
    facts += [("written", "\n".join(summary.files))]
    out().print(facts_table(f"{source.name}", facts))


def _kinds(kinds: dict[str, int], shown: int = 12) -> str:
    """The commonest kinds of pairs with their counts, and how many others there are."""
    rows = [f"{kind} {count:,}" for kind, count in list(kinds.items())[:shown]]
    others = len(kinds) - shown
    return ", ".join(rows) + (f", {others} others (--json has all)" if others > 0 else "")


@app.command("geotes")
def geotes(
    source: Annotated[
        Path, typer.Argument(help="Folder with {train,dev,test}_dataset.jsonl, or one .pth or .jsonl file.")
    ],
    output: Output = Path("data"),
    datum: DatumOption = "wgs84",
    negatives: Annotated[
        int | None, typer.Option(help="Negatives a record: the first so many, or mined ones (39 if nothing is said).")
    ] = None,
    mine: Annotated[
        bool, typer.Option("--mine", help="Mine the train records' negatives from all POIs instead of their own.")
    ] = False,
    mine_all: Annotated[bool, typer.Option("--mine-all", help="Also those of dev and test.")] = False,
    seed: Annotated[int, typer.Option(help="Of the mined negatives.")] = 2023,
    as_json: AsJson = False,
) -> None:
    """Make the published file tree from GeoTES, or import a dataset that the published code pickled."""
    from m3gal_cli.data.geotes import SPLITS, GeotesOptions, build_geotes
    from m3gal_cli.geo.coordinates import check_datum

    mined = SPLITS if mine_all else ("train",)
    options = GeotesOptions(check_datum(datum), negatives, mine or mine_all, mined, seed)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None, info="")
        summary = build_geotes(source, output, options, lambda step: bar.update(task, description=step))
    for line in summary.notes:
        note(line)
    if as_json:
        print_json(summary.to_json())
        return
    out().print(facts_table("written", [(str(f.path), f"{f.rows:,} {f.kind}") for f in summary.files]))


@app.command("sample")
def sample(output: Output = Path("data")) -> None:
    """Copy the bundled sample city, an OpenStreetMap extract of Helsinki, and print its path."""
    from m3gal_cli.data.sample import copy_sample

    path = copy_sample(output)
    note("© OpenStreetMap contributors, ODbL 1.0. Next: m3gal data osm " + str(path))
    typer.echo(str(path))


app.command("inspect")(data_inspect.inspect)
