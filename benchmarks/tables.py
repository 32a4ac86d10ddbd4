"""Measure time and memory of ``m3gal data pois``, relative to pyarrow reading and writing the same file.

    python benchmarks/tables.py --rows 5000000 --json

The table is generated in the schema of Overture Places: nested names, categories, addresses, brand and sources, and
points as WKB. Names and streets are made of syllables. It is written in row groups, so it may be larger
than memory.

``m3gal data pois`` and the copy by pyarrow run as processes of their own, one after another. The copy reads the file in
batches and writes them again, without any conversion. It runs before and after; the ratio is to the mean. Peak memory
is the largest resident set that the kernel reports; the bar is 1.5 GB.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from command_line import create_parser, print_values
from data_osm import syllable, timed

from m3gal_cli.data.geoparquet import wkb_points

BAR_MB = 1500
GROUP_ROWS = 100_000
CITIES = ["Helsinki", "Espoo", "Vantaa", "杭州市", "München"]
CATEGORIES = ["pizza_restaurant", "cafe", "pharmacy", "hardware_store", "bus_station", "museum", "hair_salon", "bank"]
COPY = """
import sys
import pyarrow.parquet as pq
with pq.ParquetFile(sys.argv[1]) as file, pq.ParquetWriter(sys.argv[2], file.schema_arrow) as writer:
    for batch in file.iter_batches(50_000):
        writer.write_batch(batch)
"""
_TEXT = pa.string()
_COMMON = pa.map_(_TEXT, _TEXT)
_NAMES = pa.struct({"primary": _TEXT, "common": _COMMON})
_ADDRESS = pa.struct({"freeform": _TEXT, "locality": _TEXT, "postcode": _TEXT, "region": _TEXT, "country": _TEXT})
_BBOX = pa.struct({"xmin": pa.float32(), "xmax": pa.float32(), "ymin": pa.float32(), "ymax": pa.float32()})
_SOURCE = pa.struct({"property": _TEXT, "dataset": _TEXT, "record_id": _TEXT, "confidence": pa.float64()})
SCHEMA = pa.schema(
    {
        "id": _TEXT,
        "geometry": pa.binary(),
        "bbox": _BBOX,
        "version": pa.int32(),
        "sources": pa.list_(_SOURCE),
        "names": _NAMES,
        "categories": pa.struct({"primary": _TEXT, "alternate": pa.list_(_TEXT)}),
        "taxonomy": pa.struct({"primary": _TEXT, "hierarchy": pa.list_(_TEXT)}),
        "confidence": pa.float64(),
        "websites": pa.list_(_TEXT),
        "phones": pa.list_(_TEXT),
        "brand": pa.struct({"wikidata": _TEXT, "names": _NAMES}),
        "addresses": pa.list_(_ADDRESS),
        "operating_status": _TEXT,
    }
)


def places(rows: int, group_rows: int = GROUP_ROWS, seed: int = 0) -> Iterator[pa.Table]:
    """Yield generated places in the schema of Overture Places, in groups; every hundredth is closed for good."""
    generator = np.random.default_rng(seed)
    words = np.array([syllable(k) for k in range(70, 5000)])
    for start in range(0, rows, group_rows):
        yield _group(np.arange(start, min(start + group_rows, rows)), words, generator)


def _group(numbers: np.ndarray, words: np.ndarray, generator: np.random.Generator) -> pa.Table:
    def choose(values: Any) -> list[Any]:
        return np.asarray(values, object)[generator.integers(0, len(values), len(numbers))].tolist()

    lng, lat = generator.uniform(24.5, 25.5, len(numbers)), generator.uniform(60.0, 60.5, len(numbers))
    streets, houses = choose([f"{w} Street" for w in words]), generator.integers(1, 200, len(numbers)).tolist()
    names = [f"{a} {b} {n}" for a, b, n in zip(choose(words), choose(words), numbers.tolist(), strict=True)]
    chains, cities, kinds = choose([None, None, None, *words[:50]]), choose(CITIES), choose(CATEGORIES)
    boxes = zip(lng, lng, lat, lat, strict=True)
    columns = {
        "id": [f"{n:08x}-0000-4000-8000-{n:012x}" for n in numbers.tolist()],
        "geometry": wkb_points(lng, lat),
        "bbox": [dict(zip(("xmin", "xmax", "ymin", "ymax"), box, strict=True)) for box in boxes],
        "version": [1] * len(numbers),
        "sources": [[{"property": "", "dataset": "meta", "record_id": str(n), "confidence": 0.9}] for n in houses],
        "names": [{"primary": n, "common": [("sv", f"{n} Ö")] if i % 5 == 0 else None} for i, n in enumerate(names)],
        "categories": [{"primary": kind, "alternate": ["eat_and_drink"]} for kind in kinds],
        "taxonomy": [{"primary": kind, "hierarchy": ["services", kind]} for kind in kinds],
        "confidence": generator.random(len(numbers)),
        "websites": [[f"https://example.org/{n}"] for n in houses],
        "phones": [[f"+35840{n:07}"] for n in numbers.tolist()],
        "brand": [{"wikidata": None, "names": {"primary": c, "common": None}} if c else None for c in chains],
        "addresses": [
            [{"freeform": f"{s} {h}", "locality": c, "postcode": "00100", "region": None, "country": "FI"}]
            for s, h, c in zip(streets, houses, cities, strict=True)
        ],
        "operating_status": ["open" if n % 100 else "permanently_closed" for n in numbers.tolist()],
    }
    return pa.Table.from_pydict(columns, SCHEMA)


def write_places(path: Path, rows: int) -> None:
    """Write a generated table, in a process of its own: the kernel counts the memory of a parent for its children."""
    write = f"import tables; tables.write_in_groups({str(path)!r}, {rows})"
    timed([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); {write}"])


def write_in_groups(path: str, rows: int) -> None:
    """Write a generated table, a row group at a time."""
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for table in places(rows):
            writer.write_table(table)


def measure(path: Path, folder: Path, options: list[str]) -> dict[str, Any]:
    """Return times and memory of the copies and of ``m3gal data pois`` over a table."""
    out, copy = folder / "pois.parquet", [sys.executable, "-c", COPY, str(path), str(folder / "copy.parquet")]
    before, copy_mb, _ = timed(copy)
    command = [sys.executable, "-m", "m3gal_cli", "data", "pois", str(path), "--output", str(out), "--json"]
    seconds, peak_mb, _ = timed([*command, *options])
    after, _, _ = timed(copy)
    rows, written = (pq.read_metadata(file).num_rows for file in (path, out))
    bare = (before + after) / 2
    return {
        "rows": rows,
        "written_rows": written,
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "seconds": round(seconds, 2),
        "rows_per_second": round(rows / seconds),
        "copy_seconds": round(bare, 2),
        "copy_spread": round(abs(before - after), 2),
        "ratio_to_copy": round(seconds / bare, 2),
        "peak_rss_mb": round(peak_mb * 1024**2 / 1e6),
        "bar_mb": BAR_MB,
        "copy_rss_mb": round(copy_mb * 1024**2 / 1e6),
    }


def main() -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="rows of the table (%(default)s)")
    parser.add_argument("--keep", type=Path, help="keep the tables in this folder")
    parser.add_argument("rest", nargs="*", help="further options of m3gal data pois, after --")
    options = parser.parse_args()
    if options.rows < 1:
        parser.error("--rows must be above 0")
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "places.parquet"
        print(f"writing {options.rows:,} places ...", file=sys.stderr)
        write_places(path, options.rows)
        print("measuring ...", file=sys.stderr)
        values = measure(path, folder, options.rest)
    print_values(values, options.json)


if __name__ == "__main__":
    main()
