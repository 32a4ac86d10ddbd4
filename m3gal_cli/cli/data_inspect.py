"""``m3gal data inspect``: statistics of tables, places with all their views, and a map page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import facts_table, frame_table, note, out, print_json, warn
from m3gal_cli.cli.options import AS_JSON, argument, option, with_options

if TYPE_CHECKING:
    from rich.console import Console

    from m3gal_cli.inspect import Inspection
    from m3gal_cli.inspect.city import FactCoverage, PlaceDetails

WIDE = 110  # console width from which facts have their full names
SHORT = {"number": "no.", "crossing": "cross", "landmark": "landm", "neighbour": "neigh", "alt names": "alt"}
SHORT |= {"district": "distr", "boundaries": "admin"}
KINDS_SHOWN = 25
PLACE_PANEL, MAP_PANEL, COMPARISON_PANEL = "Places", "Map page", "Comparison"

DATUM = "Datum of the input: wgs84, gcj02 or bd09."
AGAINST = "Extract, facts or POI table of the same city to compare the coordinates with."
PATH = "View table, POI table, facts, candidate records or queries; or the folder of a city."
PLACES = "Number of places to show with all their views (default: 20 if there are views)."
HTML_PLACES = "Maximum number of places on the map. A larger city is sampled."
ATTRIBUTION = "Source of the data on the page (default: OpenStreetMap, if the ids are OpenStreetMap ids)."


@with_options(
    argument("path", PATH),
    option("--datum", str, DATUM, default="wgs84"),
    o.COLUMNS,
    o.SKIP_BAD,
    option("--seed", int, "Random seed for the choice of rows and places.", default=0, min=0),
    option("--examples", int, "Number of example rows (default: 10; 0 if places are shown).", min=0),
    option("--places", int, PLACES, PLACE_PANEL, min=0),
    option("--place", str, "Show the place with this id.", PLACE_PANEL),
    option("--against", Path, AGAINST, COMPARISON_PANEL),
    option("--against-datum", str, "Datum of the file of --against.", COMPARISON_PANEL, default="wgs84"),
    option("--html", Path, "Write a page with a map of the places.", MAP_PANEL),
    option("--html-places", int, HTML_PLACES, MAP_PANEL, default=20_000, min=1),
    option("--attribution", str, ATTRIBUTION, MAP_PANEL),
    AS_JSON,
)
def inspect(values: dict[str, Any]) -> None:
    """Show the content of a data file: counts, ranges, suspected datum, places with all their views, facts by kind."""
    from m3gal_cli.errors import InputError
    from m3gal_cli.inspect import InspectOptions, inspect_file
    from m3gal_cli.inspect.file_kinds import city_name
    from m3gal_cli.inspect.page import write_page
    from m3gal_cli.poi_source import bad_rows_file

    examples, html, seed = values["examples"], values["html"], values["seed"]
    options = InspectOptions(
        seed,
        10 if examples is None else examples,
        values["datum"],
        values["places"],
        values["place"],
        values["against"],
        values["against_datum"],
        values["columns"],
        bad_rows_file(values["path"], Path()) if values["skip_bad"] else None,
    )
    result = inspect_file(values["path"], options)
    if html is not None:
        if result.city is None:
            raise InputError(f"a file of {result.kind} has no map", where=result.path, hint="Give a table of places.")
        title = city_name(result.path) or result.path.name.split(".")[0]
        shown = write_page(result.city, html, title, seed, values["html_places"], values["attribution"])
        total = len(result.city.places)
        sample = "" if shown == total else f", a sample of {total:,} (seed {seed}; see --html-places)"
        note(f"{html}: a map of {shown:,} places{sample}")
    for line in result.notes:
        note(line)
    if values["json"]:
        print_json(result.to_json())
    else:
        show(result, out(), examples is not None or not result.places)


def show(result: Inspection, console: Console, with_rows: bool) -> None:
    """Print the result of an inspection, with or without the example rows."""
    console.print(facts_table(f"{result.path}: {result.kind}", result.facts))
    if result.fact_coverage:
        console.print(coverage_table(result.fact_coverage, console.width))
    if with_rows:
        console.print(frame_table("examples", result.examples))
    for place in result.places:
        show_place(place, console)
    if result.datum_comparison is not None and not result.datum_comparison.suspicious:
        note(result.datum_comparison.words)
    for line in result.warnings:
        warn(line)


def coverage_table(coverage: list[FactCoverage], width: int) -> Table:
    """Return a table with the percentage of places that have each fact: a row per kind, and a last row for all."""
    wide = width >= WIDE
    table = Table(title="% of places with …", title_justify="left", box=None, padding=(0, 1 + wide, 0, 0))
    table.add_column("kind", style="bold", overflow="fold")
    table.add_column("places", justify="right", no_wrap=True)
    names = list(coverage[0].facts)
    for name in names:
        table.add_column(name if wide else SHORT.get(name, name), justify="right", no_wrap=True)
    *kinds, total = coverage
    for row in kinds[:KINDS_SHOWN]:
        table.add_row(escape(row.kind), f"{row.places:,}", *(_percent(row.facts[name]) for name in names))
    if len(kinds) > KINDS_SHOWN:
        others = sum(row.places for row in kinds[KINDS_SHOWN:])
        table.add_row(f"{len(kinds) - KINDS_SHOWN} more", f"{others:,}", style="dim")
    table.add_row(total.kind, f"{total.places:,}", *(_percent(total.facts[name]) for name in names), style="bold")
    return table


def _percent(share: float) -> str:
    """Return a rounded percentage; 0 and 100 are exact."""
    if 0.0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1.0 else f"{share:.0%}".rstrip("%")


def show_place(place: PlaceDetails, console: Console) -> None:
    """Print a place with its facts and its views."""
    name = place.name or (place.views[0][1] if place.views else "(no name)")
    at = f"{escape(place.poi_id)}  {place.lng:.6f}, {place.lat:.6f}"
    console.print(f"\n[bold]{escape(name)}[/]  {escape(place.category or place.kind)}  [dim]{at}[/]")
    for part in (_pairs(list(place.facts.items())), _pairs(place.views, repeats=False)):
        if part.row_count:
            console.print(part)


def _pairs(rows: list[tuple[str, str]], repeats: bool = True) -> Table:
    """Return a table of names and texts; without ``repeats``, consecutive equal names are shown once."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=12)
    table.add_column(overflow="fold")
    last = None
    for name, text in rows:
        table.add_row(escape("" if name == last and not repeats else name), escape(text))
        last = name
    return table
