"""Read POIs from any source: a table of any format and schema, or an OpenStreetMap extract."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Self

from m3gal_cli.errors import InputError
from m3gal_cli.files import require_file

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from m3gal_cli.config.schema import DataConfig
    from m3gal_cli.data.poi_reader import PoiOptions, PoiStream

EXTRACT_SUFFIXES = (".pbf", ".osm", ".osm.gz", ".osm.bz2", ".o5m")
CANONICAL = ("poi_id", "address", "name", "lng", "lat")
Log = Callable[[str], None]


def is_extract(path: Path) -> bool:
    """Return whether a file name is that of an OpenStreetMap extract."""
    return path.name.lower().endswith(EXTRACT_SUFFIXES)


def open_pois(path: Path, options: PoiOptions | None = None, log: Log | None = None) -> PoiStream | ExtractPois:
    """Open the POIs of a table or an extract.

    Args:
        path: The source. An extract gives the rows that ``data osm`` writes into the POI table.
        options: How it is read; ``bad_rows`` has no effect on extracts.
        log: Called with messages.

    Raises:
        InputError: The source is unreadable, or its schema is unknown or ambiguous.
    """
    from m3gal_cli.data import poi_reader
    from m3gal_cli.data.formats import no_log

    options, log = options or poi_reader.DEFAULT_OPTIONS, log or no_log
    return ExtractPois(path, options, log) if is_extract(path) else poi_reader.open_pois(path, options, log)


def read_pois(path: Path, options: PoiOptions | None = None, log: Log | None = None) -> pd.DataFrame:
    """Read all canonical POIs of a table or an extract; see ``open_pois``. Raises InputError."""
    import pyarrow as pa

    with open_pois(path, options, log) as stream:
        frame: pd.DataFrame = pa.concat_tables(stream.batches()).to_pandas()
    return frame


class ExtractPois:
    """The POIs of an extract, in one batch; with the attributes of ``data.poi_reader.PoiStream``."""

    def __init__(self, path: Path, options: PoiOptions, log: Log) -> None:
        from m3gal_cli.data.schemas import Schema

        if options.columns is not None:
            hint = "Leave it out: the tags of OpenStreetMap have fixed roles."
            raise InputError("--columns does not apply to an extract", where=path, hint=hint)
        self._path, self._options = require_file(path, "extract"), options
        self.name, self.schema = path.name, Schema("openstreetmap", {"id": ("type and id",), "address": ("tags",)})
        self.notes: list[str] = []
        self.rows = self.closed = self.skipped = self.done = self.size = 0
        self.has_ids = True
        log(f"{self.name}: an OpenStreetMap extract: its named places and addresses are the POIs")

    def batches(self) -> Iterator[pa.Table]:
        """Yield the canonical POIs. Raises InputError."""
        import pyarrow as pa

        from m3gal_cli.osm.city import SourceOptions, compute_statistics, read_city

        city = read_city(self._path, SourceOptions(datum=self._options.datum), self._progress)
        statistics = compute_statistics(city, self._progress)
        pois = statistics.pois.assign(group=statistics.groups)
        pois = pois[[*CANONICAL, *(column for column in pois.columns if column not in CANONICAL)]]
        self.rows = len(pois)
        yield pa.Table.from_pandas(pois, preserve_index=False)

    def _progress(self, _step: str, done: int, total: int) -> None:
        self.done, self.size = done, total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


def poi_options(data: DataConfig, path: Path, folder: Path = Path()) -> PoiOptions:
    """Return how a table is read by the settings; the file of its invalid rows is in ``folder``."""
    from m3gal_cli.data.poi_reader import PoiOptions

    return PoiOptions(data.datum, data.columns, bad_rows_file(path, folder) if data.skip_bad else None)


def bad_rows_file(table: Path, folder: Path) -> Path:
    """Return the file that lists the invalid rows of a table: STEM.bad.jsonl in a folder."""
    from m3gal_cli.files import stem_of

    return folder / f"{stem_of(table)}.bad.jsonl"
