"""View tables and POI tables: read and write .csv, .parquet and .jsonl by suffix (.csv and .jsonl also .gz).

Coordinates are (lng, lat) in degrees, WGS-84; readers convert from ``datum``.
"""

from __future__ import annotations

import csv
import json
import warnings
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, open_text, require_file, stem_of, suffix_of
from m3gal_cli.geo.datums import Datum, to_wgs84
from m3gal_cli.geo.geohash import GEOHASH_LENGTH, geohash_digits

GEOHASH_COLUMNS = [f"geohash{i}" for i in range(1, GEOHASH_LENGTH + 1)]
VIEW_COLUMNS = ["address1", "address2", "lng", "lat"]
POI_COLUMNS = ["address", "lng", "lat"]
FACTS_COLUMNS = ["poi_id", "name", "category", "lng", "lat"]
COORDINATE_DECIMALS = 7  # a centimetre: finer digits are noise, and equal points would differ by them


def read_views(path: Path, datum: Datum = "wgs84") -> pd.DataFrame:
    """Read all columns of a view table.

    Raises:
        InputError: A column is missing, or a text or coordinate is invalid (at file:line: column). Swapped coordinates
            are detected by their range, or by geohash digits that match the swapped pair.
    """
    frame = _read(path, VIEW_COLUMNS, "view table")
    _check_text(frame, "address1", path)
    _check_text(frame, "address2", path)
    _check_coordinates(frame, path)
    _check_geohash(frame, path)
    frame = _convert(frame, datum)
    if datum != "wgs84" and set(GEOHASH_COLUMNS) <= set(frame.columns):
        frame[GEOHASH_COLUMNS] = geohash_digits(frame["lng"], frame["lat"])  # the digits of the file are in its datum
    return frame


def read_facts(path: Path, datum: Datum = "wgs84") -> pd.DataFrame:
    """Read the facts table of a city; the column ``geometry`` is dropped. Raises InputError as ``read_views``."""
    frame = _read(path, FACTS_COLUMNS, "facts table").drop(columns="geometry", errors="ignore")
    _check_ids(frame, path)
    _check_coordinates(frame, path)
    return _convert(frame.assign(poi_id=frame["poi_id"].astype(str)), datum)


def with_geohash(views: pd.DataFrame) -> pd.DataFrame:
    """Return the published columns of a view table, including geohash digits."""
    digits = pd.DataFrame(geohash_digits(views["lng"], views["lat"]), columns=GEOHASH_COLUMNS, index=views.index)
    return pd.concat([views[VIEW_COLUMNS], digits], axis=1)


class ViewsWriter:
    """Writes a view table in pieces; opened by ``views_writer``."""

    def __init__(self, file: IO[str], twin: Path) -> None:
        self._csv, self._twin = file, twin
        self._parquet: pq.ParquetWriter | None = None
        self.rows = 0

    def write(self, views: pd.DataFrame) -> None:
        """Append rows; every piece has the columns of the first."""
        views = _rounded(views)
        published = with_geohash(views)
        published.to_csv(self._csv, index=False, lineterminator="\n", header=self.rows == 0)
        table = pa.Table.from_pandas(
            pd.concat([published, views[[c for c in views.columns if c not in published.columns]]], axis=1),
            schema=self._parquet.schema if self._parquet else None,
            preserve_index=False,
        )
        if self._parquet is None:
            self._parquet = pq.ParquetWriter(self._twin, table.schema)
        self._parquet.write_table(table)
        self.rows += len(views)

    def close(self) -> None:
        """Complete the .parquet file."""
        if self._parquet is not None:
            self._parquet.close()


@contextmanager
def views_writer(path: Path) -> Iterator[ViewsWriter]:
    """Open a writer of the published columns to the .csv ``path`` and of all columns to its .parquet twin.

    Both files appear when the block ends without an error.
    """
    with (
        atomic_text(path) as file,
        atomic_path(parquet_twin(path)) as twin,
        closing(ViewsWriter(file, twin)) as writer,
    ):
        yield writer


def write_views(views: pd.DataFrame, path: Path) -> None:
    """Write a view table; see ``views_writer``."""
    with views_writer(path) as writer:
        writer.write(views)


def write_pois(pois: pd.DataFrame, path: Path) -> None:
    """Write address, lng, lat to the .csv ``path`` and all columns to its .parquet twin."""
    pois = _rounded(pois)
    write_table(pois[POI_COLUMNS], path)
    write_table(pois, parquet_twin(path))


def parquet_twin(path: Path) -> Path:
    """Return the path of the twin: ``a.csv`` and ``a.csv.gz`` -> ``a.parquet``."""
    return path.with_name(f"{stem_of(path)}.parquet")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame atomically, as .parquet or else as .csv (.gz)."""
    if suffix_of(path) == ".parquet":
        with atomic_path(path) as temporary:
            frame.to_parquet(temporary, index=False)
    else:
        with atomic_text(path) as file:
            frame.to_csv(file, index=False, lineterminator="\n")


def read_frame(path: Path, what: str = "table") -> pd.DataFrame:
    """Read any table by suffix, without validation; CSV cells are text. ``what`` names the table in errors."""
    require_file(path, what)
    kind = suffix_of(path)
    try:
        if kind == ".csv":
            return _read_csv(path, what)
        if kind == ".parquet":
            return pd.read_parquet(path)
        if kind == ".jsonl":
            return pd.DataFrame([row for _, row in iter_json_lines(path)])
    except (ValueError, OSError, EOFError, zlib.error) as error:  # pandas and pyarrow raise ValueErrors
        raise _unreadable(error, path, what) from error
    problem = f"cannot read a {what} from {kind or 'a file without suffix'}"
    raise InputError(problem, where=path, hint="Use one of .csv, .parquet, .jsonl.")


def iter_json_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the line number (from 1) and the object of each line of a .jsonl file that is not blank.

    Raises:
        InputError: A line is no JSON object (at file:line), or the file is unreadable or has blank lines only.
    """
    require_file(path)
    empty = True
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _json_object(line, f"{path}:{number}")
                    empty = False
    except (UnicodeDecodeError, OSError, EOFError, zlib.error) as error:
        raise _unreadable(error, path, "file") from error
    if empty:
        raise InputError("the file contains only blank lines", where=path, hint="Make or fetch it again.")


def _json_object(line: str, where: str) -> dict[str, object]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"not JSON: {error}", where=where, hint="Repair or delete the line.") from error
    if not isinstance(row, dict):
        what = f"expected a JSON object, got {type(row).__name__}"
        raise InputError(what, where=where, hint="Each line is one object {…}.")
    return row


def _read_csv(path: Path, what: str) -> pd.DataFrame:
    """Read cells as text. A row with more cells than the header is refused: pandas would shift or drop its cells."""
    try:
        with open_text(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        width = 0
        for line, cells in _csv_rows(path):
            width = width or len(cells)
            if len(cells) > width:
                wide = f"the row has {len(cells)} cells, the header of the {what} {width}"
                hint = "Quote cells that hold a comma, or delete the row."
                raise InputError(wide, where=f"{path}:{line}", hint=hint) from error
        raise _unreadable(error, path, what) from error
    return frame.rename(columns=str.strip)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the last line number and the cells of each row that pandas reads, including the header."""
    with open_text(path) as file:
        reader = csv.reader(file)
        try:
            for cells in reader:
                if len(cells) > 1 or (cells and cells[0].strip()):
                    yield reader.line_num, cells
        except csv.Error:
            return


def _read(path: Path, columns: list[str], what: str) -> pd.DataFrame:
    frame = read_frame(path, what)
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        names, present = ", ".join(missing), ", ".join(map(str, frame.columns))
        error = f"the {what} has no column {names} (the columns are: {present})"
        raise InputError(error, where=path, hint="Rename or add it.")
    if frame.empty:
        raise InputError(f"the {what} has no rows", where=path, hint="Make or fetch it again.")
    return frame


def _refuse_first(wrong: NDArray[np.bool_], path: Path, values: pd.Series, what: str, hint: str) -> None:
    """Raise InputError for the first wrong row, if there is one; its value replaces {} in ``what``."""
    if wrong.any():
        row = int(np.argmax(wrong))
        where = _position(path, row, str(values.name))
        raise InputError(what.format(_shown(values.iloc[row])), where=where, hint=hint)


def _check_text(frame: pd.DataFrame, column: str, path: Path) -> None:
    empty = frame[column].map(lambda v: not isinstance(v, str) or not v.strip()).to_numpy(bool)
    _refuse_first(empty, path, frame[column], "expected text, got {}", "Fill the cell or delete the row.")


def _check_ids(frame: pd.DataFrame, path: Path) -> None:
    ids = frame["poi_id"]
    empty = (ids.isna() | (ids.astype(str).str.strip() == "")).to_numpy()
    hint = "Fill the cell, or drop the column: then row numbers are the ids."
    _refuse_first(empty, path, ids, "the poi_id is empty", hint)
    _refuse_first(ids.duplicated().to_numpy(), path, ids, "poi_id {} appears twice", "Make ids unique.")


def _check_coordinates(frame: pd.DataFrame, path: Path) -> None:
    """Convert lng and lat to numbers. Raises InputError for other values and for numbers out of range."""
    for column, limit in (("lng", 180.0), ("lat", 90.0)):
        numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
        hint = "Fill the cell or delete the row."
        _refuse_first(~np.isfinite(numbers), path, frame[column], "expected degrees, got {}", hint)
        frame[column] = numbers
        what, hint = f"{{}} is outside [-{limit:g}, {limit:g}]", "Coordinates are degrees, lng before lat."
        if column == "lat" and (frame["lng"].abs() <= 90.0).all():
            what, hint = f"{what}: lng and lat look swapped", "Swap the two columns: lng before lat."
        _refuse_first(np.abs(numbers) > limit, path, frame[column], what, hint)


def _check_geohash(frame: pd.DataFrame, path: Path) -> None:
    """Raise InputError if the geohash digits match the swapped coordinates; no range shows that."""
    if not set(GEOHASH_COLUMNS) <= set(frame.columns):
        return
    try:
        digits = frame[GEOHASH_COLUMNS[:3]].astype(np.int64).to_numpy()
    except ValueError:
        return
    lng, lat = frame["lng"].to_numpy(np.float64), frame["lat"].to_numpy(np.float64)
    if (geohash_digits(lng, lat, 3) == digits).all(axis=1).any():
        return
    if (np.abs(lng) <= 90.0).all() and (geohash_digits(lat, lng, 3) == digits).all(axis=1).any():
        what = "lng and lat look swapped (the geohash columns match the swapped pair)"
        raise InputError(what, where=_position(path, 0, "lng"), hint="Swap the two columns: lng before lat.")


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(lng=frame["lng"].round(COORDINATE_DECIMALS), lat=frame["lat"].round(COORDINATE_DECIMALS))


def _convert(frame: pd.DataFrame, datum: Datum) -> pd.DataFrame:
    lng, lat = to_wgs84(frame["lng"], frame["lat"], datum)
    return frame.assign(lng=lng, lat=lat)


def _position(path: Path, row: int, column: str) -> str:
    """Return file:line: column of a row. The file is read again, because rows may span lines or be blank."""
    rows: Iterator[tuple[int, Any]] = iter(())
    if suffix_of(path) == ".csv":
        rows = islice(_csv_rows(path), row + 1, None)
    elif suffix_of(path) == ".jsonl":
        rows = islice(iter_json_lines(path), row, None)
    line, _ = next(rows, (None, None))
    return f"{path}: row {row + 1}: {column}" if line is None else f"{path}:{line}: {column}"


def _shown(value: Any) -> str:
    """Return a cell for a message; a missing value is "nothing"."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return "nothing" if np.isnan(value) else f"{value:g}"
    return "nothing" if value is None else repr(value)[:80]


def _unreadable(error: BaseException, path: Path, what: str) -> InputError:
    reason = " ".join(str(error).split())[:200]
    hint = "Is it UTF-8?" if isinstance(error, UnicodeDecodeError) else "Is it complete? Make or fetch it again."
    return InputError(f"cannot read the {what} ({reason})", where=path, hint=hint)
