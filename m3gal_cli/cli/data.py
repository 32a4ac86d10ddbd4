"""``m3gal data``: extracts and GeoTES in, validated tables out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from m3gal_cli.cli import data_inspect
from m3gal_cli.cli.console import facts_table, note, out, print_json, progress_bar
from m3gal_cli.cli.options import AsJson

app = typer.Typer(no_args_is_help=True, help="Make and look at tables: osm, geotes, sample, inspect.")

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.")]
DatumOption = Annotated[str, typer.Option(help="Datum of the input: wgs84, gcj02 or bd09.")]


@app.command("osm")
def osm(
    extract: Annotated[Path, typer.Argument(help="An OpenStreetMap extract: .osm.pbf, .osm, .osm.gz, .osm.bz2.")],
    output: Output = Path("data"),
    suffix: Annotated[str | None, typer.Option(help="Ends the file names.  [default: the extract's name]")] = None,
    locale: Annotated[str, typer.Option(help="auto, zh, en, neutral, or a locale's YAML file.")] = "auto",
    datum: DatumOption = "wgs84",
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 2023,
    negatives: Annotated[int, typer.Option(help="Negatives a candidate record.")] = 39,
    pairs: Annotated[int, typer.Option(help="View pairs a place, at most.")] = 8,
    train_queries: Annotated[int, typer.Option(help="Records to finetune on.")] = 3000,
    val_queries: Annotated[int, typer.Option(help="Records to validate on.")] = 500,
    test_queries: Annotated[int, typer.Option(help="Records to test on.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """Turn an extract into views, a POI table and train / val / test candidate records."""
    from m3gal_cli.data.coordinates import check_datum
    from m3gal_cli.data.osm.build import OsmOptions, build_city

    options = OsmOptions(
        locale=locale,
        suffix=suffix or extract.name.split(".")[0],
        seed=seed,
        datum=check_datum(datum),
        max_pairs_per_place=pairs,
        negatives=negatives,
        train_queries=train_queries,
        val_queries=val_queries,
        test_queries=test_queries,
    )
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None, info="")

        def tell(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total or None)

        summary = build_city(extract, output, options, tell)
    if as_json:
        print_json(summary.to_json())
        return
    facts = [("places", f"{summary.places:,}"), ("view pairs", f"{summary.pairs:,}")]
    facts += [(f"{split} queries", f"{count:,}") for split, count in summary.queries.items()]
    also = f", names also in {', '.join(summary.languages)}" if summary.languages else ""
    facts += [("locale", summary.locale + also), ("seconds", f"{summary.seconds:.1f}")]
    facts += [("written", "\n".join(summary.files))]
    out().print(facts_table(f"{extract.name}", facts))


@app.command("geotes")
def geotes(
    source: Annotated[
        Path, typer.Argument(help="Folder with {train,dev,test}_dataset.jsonl, or one .pth or .jsonl file.")
    ],
    output: Output = Path("data"),
    datum: DatumOption = "wgs84",
    as_json: AsJson = False,
) -> None:
    """Make the published file tree from GeoTES, or import a dataset that the published code pickled."""
    from m3gal_cli.data.coordinates import check_datum
    from m3gal_cli.data.geotes import GeotesOptions, build_geotes

    with progress_bar() as bar:
        task = bar.add_task("reading", total=None, info="")
        options = GeotesOptions(check_datum(datum))
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
