"""``m3gal data inspect``: look at tables, at places with all their views, and at a map of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from m3gal_cli.cli.console import facts_table, frame_table, note, out, print_json
from m3gal_cli.cli.options import AsJson

if TYPE_CHECKING:
    from rich.console import Console

    from m3gal_cli.inspect import Inspection
    from m3gal_cli.inspect.city import PlaceCard, Share

WIDE = 110  # columns from which facts stand beside the views, and names of facts are written out
SHORT = {"number": "no.", "crossing": "cross", "landmark": "landm", "neighbour": "neigh", "alt names": "alt"}
SHORT |= {"district": "distr", "boundaries": "admin"}
KINDS_SHOWN = 25
PLACE_PANEL, MAP_PANEL, SHIFT_PANEL = "Places", "Map page", "Comparison"


Tables = Annotated[
    Path, typer.Argument(help="View table, POI table, facts, candidate records or queries; or the folder of a city.")
]
DatumOption = Annotated[str, typer.Option(help="Datum of the input: wgs84, gcj02 or bd09.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the choice of rows and places.")]
Examples = Annotated[int | None, typer.Option(min=0, help="Example rows (default: 10, beside places 0).")]
Places = Annotated[
    int | None,
    typer.Option(
        min=0, rich_help_panel=PLACE_PANEL, help="Places with all their views (default: 20 where there are views)."
    ),
]
PlaceId = Annotated[str | None, typer.Option(rich_help_panel=PLACE_PANEL, help="Show the place with this id.")]
Against = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=SHIFT_PANEL, help="Extract, facts or POI table: do the coordinates lie beside its own?"
    ),
]
AgainstDatum = Annotated[str, typer.Option(rich_help_panel=SHIFT_PANEL, help="Datum of that.")]
Html = Annotated[Path | None, typer.Option(rich_help_panel=MAP_PANEL, help="Write a page with a map of the places.")]
HtmlPlaces = Annotated[
    int, typer.Option(min=1, rich_help_panel=MAP_PANEL, help="Places on it at most; of more, a seeded sample.")
]
Attribution = Annotated[
    str | None, typer.Option(rich_help_panel=MAP_PANEL, help="Who made the data (default: told from the ids).")
]


def inspect(
    path: Tables,
    datum: DatumOption = "wgs84",
    seed: Seed = 0,
    examples: Examples = None,
    places: Places = None,
    place: PlaceId = None,
    against: Against = None,
    against_datum: AgainstDatum = "wgs84",
    html: Html = None,
    html_places: HtmlPlaces = 20_000,
    attribution: Attribution = None,
    as_json: AsJson = False,
) -> None:
    """Show what a data file holds: counts, ranges, suspected datum, places with all their views, facts by kind."""
    from m3gal_cli.errors import InputError
    from m3gal_cli.geo.coordinates import check_datum
    from m3gal_cli.inspect import Look, inspect_file
    from m3gal_cli.inspect.page import write_page

    look = Look(
        seed,
        10 if examples is None else examples,
        check_datum(datum),
        places,
        place,
        against,
        check_datum(against_datum),
    )
    found = inspect_file(path, look)
    if html is not None:
        if found.city is None:
            raise InputError(f"a file of {found.kind} has no map", where=found.path, hint="Name a table of places.")
        page = write_page(found.city, html, title_of(found), seed, html_places, attribution)
        sample = "" if page.shown == page.places else f", a sample of {page.places:,} (seed {seed}; see --html-places)"
        note(f"{html}: a map of {page.shown:,} places{sample}")
    if as_json:
        print_json(found.to_json())
        return
    show(found, out(), examples is not None or not found.places)


def title_of(found: Inspection) -> str:
    """What heads the page: the city in the file's name."""
    name = found.path.name.split(".")[0]
    return next((name.removeprefix(s) for s in ("same_poi_views_", "poi_database_", "facts_") if s in name), name)


def show(found: Inspection, console: Console, rows: bool) -> None:
    """Print all that was found; ``rows``: the example rows too."""
    console.print(facts_table(f"{found.path}: {found.kind}", found.facts))
    if found.shares:
        console.print(shares_table(found.shares, console.width))
    if rows:
        console.print(frame_table("examples", found.examples))
    for card in found.places:
        show_place(card, console)
    if found.shift is not None and not found.shift.suspicious:
        note(found.shift.words)
    for line in found.warnings:
        note(f"warning: {line}")


def shares_table(shares: list[Share], width: int) -> Table:
    """Per cent of the places of each kind that have each fact; all kinds below."""
    wide = width >= WIDE
    table = Table(title="% of places with …", title_justify="left", box=None, padding=(0, 1 + wide, 0, 0))
    table.add_column("kind", style="bold", overflow="fold")
    table.add_column("places", justify="right", no_wrap=True)
    names = list(shares[0].facts)
    for name in names:
        table.add_column(name if wide else SHORT.get(name, name), justify="right", no_wrap=True)
    *kinds, total = shares
    for share in kinds[:KINDS_SHOWN]:
        table.add_row(escape(share.kind), f"{share.places:,}", *(_percent(share.facts[name]) for name in names))
    if len(kinds) > KINDS_SHOWN:
        rest = sum(share.places for share in kinds[KINDS_SHOWN:])
        table.add_row(f"{len(kinds) - KINDS_SHOWN} more", f"{rest:,}", style="dim")
    table.add_row(total.kind, f"{total.places:,}", *(_percent(total.facts[name]) for name in names), style="bold")
    return table


def _percent(share: float) -> str:
    """Rounded, but all and nothing mean just that."""
    if 0.0 < share < 0.005:
        return "<1"
    return ">99" if 0.995 <= share < 1.0 else f"{share:.0%}".rstrip("%")


def show_place(card: PlaceCard, console: Console) -> None:
    """A place: its facts, and its views one below the other with their kinds, side by side where there is room."""
    head = card.name or (card.views[0][1] if card.views else "(no name)")
    what = card.category or card.kind
    console.print(
        f"\n[bold]{escape(head)}[/]  {escape(what)}  [dim]{escape(card.poi_id)}  {card.lng:.6f}, {card.lat:.6f}[/]"
    )
    facts, views = _pairs(list(card.facts.items())), _pairs(card.views, repeats=False)
    if not card.facts or not card.views or console.width < WIDE:
        for part in (facts, views):
            if part.row_count:
                console.print(part)
        return
    side = Table.grid(expand=True, padding=(0, 3, 0, 0))
    side.add_column(ratio=2)
    side.add_column(ratio=3)
    side.add_row(facts, views)
    console.print(side)


def _pairs(rows: list[tuple[str, str]], repeats: bool = True) -> Table:
    """Names and texts; a name that comes again is left blank unless ``repeats``."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True, min_width=12)
    table.add_column(overflow="fold")
    last = None
    for name, text in rows:
        table.add_row(escape("" if name == last and not repeats else name), escape(text))
        last = name
    return table
