"""``m3gal data pois``: convert any source of POIs into a POI table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from m3gal_cli.cli import data_inspect
from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import err, facts_table, note, print_json
from m3gal_cli.cli.options import AS_JSON, argument, option, with_options
from m3gal_cli.cli.progress import RowProgress

SOURCE = "POI table of any format and schema, a folder of .parquet files, or an OpenStreetMap extract."
TABLE = "POI table to write: .parquet, .csv or .jsonl; .csv and .jsonl also with .gz."


@with_options(
    argument("source", SOURCE),
    option("--output -o", Path, TABLE, default=Path("pois.parquet")),
    option("--datum", str, data_inspect.DATUM, default="wgs84"),
    o.COLUMNS,
    o.SKIP_BAD,
    AS_JSON,
)
def pois(values: dict[str, Any]) -> None:
    """Convert any source of POIs into a POI table with poi_id, address, name, lng, lat and all own columns.

    Prints the column of each role. Invalid rows are errors, or left out with --skip-bad.
    """
    from m3gal_cli.data.poi_reader import PoiOptions
    from m3gal_cli.data.poi_writer import check_suffix, poi_writer
    from m3gal_cli.geo.datums import check_datum
    from m3gal_cli.poi_source import bad_rows_file, open_pois

    source, output = values["source"], values["output"]
    check_suffix(output)
    bad_rows = bad_rows_file(source, output.parent) if values["skip_bad"] else None
    options = PoiOptions(check_datum(values["datum"]), values["columns"], bad_rows)
    messages: list[str] = []
    with open_pois(source, options, messages.append) as stream, RowProgress("reading") as progress:
        messages.clear()  # the table below shows the schema
        with poi_writer(output) as write:
            for batch in stream.batches():
                write(batch)
                progress(stream.done, stream.size)
    for text in messages:
        note(text)
    if values["json"]:
        print_json(
            {
                "path": str(output),
                "rows": stream.rows,
                "skipped": stream.skipped,
                "closed": stream.closed,
                "has_ids": stream.has_ids,
                "notes": stream.notes,
                "schema": stream.schema.to_json(),
            }
        )
        return
    facts = [("format", ", ".join(stream.notes))] if stream.notes else []
    facts += [("schema", stream.schema.name), *stream.schema.describe()]
    facts += [("POIs", f"{stream.rows:,}")]
    facts += [("closed", f"{stream.closed:,}")] if stream.closed else []
    facts += [("invalid", f"{stream.skipped:,}, see {bad_rows}")] if stream.skipped else []
    err().print(facts_table(source.name, [*facts, ("written", str(output))]))
