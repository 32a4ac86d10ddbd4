"""The view table and the POI table: one reader and one writer each, by suffix (.csv, .parquet, .jsonl, each also .gz).

Coordinates are degrees, lng before lat, WGS-84 inside; readers convert from ``datum`` at the door.
"""

from __future__ import annotations

import csv
import json
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, atomic_text, open_text, require_file, suffix_of
from m3gal_cli.geo.coordinates import GEOHASH_LENGTH, Datum, geohash_digits, to_wgs84

GEOHASH_COLUMNS = [f"geohash{i}" for i in range(1, GEOHASH_LENGTH + 1)]
VIEW_COLUMNS = ["address1", "address2", "lng", "lat", *GEOHASH_COLUMNS]
POI_COLUMNS = ["address", "lng", "lat"]
COORDINATE_DECIMALS = 7  # a centimetre: finer digits are noise and break equality
READABLE = (".csv", ".parquet", ".jsonl")


def read_views(path: Path, datum: Datum = "wgs84") -> pd.DataFrame:
    """Read a view table.

    Returns:
        address1, address2 (str), lng, lat (float degrees, WGS-84) and whatever further columns the file has.

    Raises:
        InputError: missing or empty file, missing column, empty text, coordinates that are no numbers, out of range or
            swapped (by range, or because the geohash digits fit the swapped pair).
    """
    frame = _read(path, ["address1", "address2", "lng", "lat"], "view table")
    _check_text(frame, "address1", path)
    _check_text(frame, "address2", path)
    _check_coordinates(frame, path)
    _check_geohash(frame, path)
    frame = _convert(frame, datum)
    if datum != "wgs84" and set(GEOHASH_COLUMNS) <= set(frame.columns):
        frame[GEOHASH_COLUMNS] = geohash_digits(frame["lng"], frame["lat"])  # the file's digits are of its own datum
    return frame


def read_pois(path: Path, datum: Datum = "wgs84") -> pd.DataFrame:
    """Read a POI table.

    Returns:
        poi_id, address, lng, lat and whatever further columns the file has. Without a poi_id column the ids are row
        numbers counted from 0. Equal rows are kept: the evaluations count them, ``predict`` collapses them.

    Raises:
        InputError: as ``read_views``; also for a poi_id that is empty or appears twice.
    """
    frame = _read(path, POI_COLUMNS, "POI table")
    _check_text(frame, "address", path)
    _check_coordinates(frame, path)
    if "poi_id" not in frame.columns:
        frame.insert(0, "poi_id", np.arange(len(frame)))
    else:
        _check_ids(frame, path)
    return _convert(frame, datum)


def with_geohash(views: pd.DataFrame) -> pd.DataFrame:
    """The view table in the published column order; any other columns are dropped."""
    digits = pd.DataFrame(geohash_digits(views["lng"], views["lat"]), columns=GEOHASH_COLUMNS, index=views.index)
    return pd.concat([views[["address1", "address2", "lng", "lat"]], digits], axis=1)


class ViewsWriter:
    """Writes a view table in pieces: the published .csv columns to ``path``, every column to its .parquet twin.

    Both files appear when the ``with`` block ends well, neither if it does not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()
        self._parquet: pq.ParquetWriter | None = None
        self.rows = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._csv = stack.enter_context(atomic_text(self._path))
            self._twin = stack.enter_context(atomic_path(parquet_twin(self._path)))
            self._stack = stack.pop_all()
        return self

    def write(self, views: pd.DataFrame) -> None:
        """Append rows; every piece has the columns of the first."""
        views = views.assign(lng=views["lng"].round(COORDINATE_DECIMALS), lat=views["lat"].round(COORDINATE_DECIMALS))
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parquet is not None:
            self._parquet.close()
        self._stack.__exit__(kind, error, trace)


def write_views(views: pd.DataFrame, path: Path) -> None:
    """Write the published .csv columns to ``path`` and every column, geohash digits included, to its .parquet twin."""
    with ViewsWriter(path) as writer:
        writer.write(views)


def write_pois(pois: pd.DataFrame, path: Path) -> None:
    """Write address, lng, lat to the .csv at ``path`` and every column to its .parquet twin."""
    pois = pois.assign(lng=pois["lng"].round(COORDINATE_DECIMALS), lat=pois["lat"].round(COORDINATE_DECIMALS))
    write_table(pois[POI_COLUMNS], path)
    write_table(pois, parquet_twin(path))


def parquet_twin(path: Path) -> Path:
    """Where the table with every column lies beside ``path``: ``a.csv`` and ``a.csv.gz`` -> ``a.parquet``."""
    plain = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return plain.with_suffix(".parquet")


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame atomically as .csv, .parquet or .jsonl (.csv and .jsonl also .gz)."""
    kind = suffix_of(path)
    if kind == ".parquet":
        with atomic_path(path) as temporary:
            frame.to_parquet(temporary, index=False)
    elif kind == ".csv":
        with atomic_text(path) as file:
            frame.to_csv(file, index=False, lineterminator="\n")
    elif kind == ".jsonl":
        with atomic_text(path) as file:
            frame.to_json(file, orient="records", lines=True, force_ascii=False)
    else:
        raise InputError(f"cannot write a table as {kind or 'a file without suffix'}", where=path, hint=_formats())


def read_frame(path: Path, what: str = "table") -> pd.DataFrame:
    """Read any table by suffix, unvalidated. CSV cells come as text, an empty cell as the empty text."""
    require_file(path, what)
    kind = suffix_of(path)
    try:
        if kind == ".csv":
            return _read_csv(path, what)
        if kind == ".parquet":
            return pd.read_parquet(path)
        if kind == ".jsonl":
            return pd.DataFrame([row for _, row in read_json_lines(path)])
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read the {what} ({_one_line(error)})", where=path, hint="Is it UTF-8?") from error
    except (ValueError, OSError, EOFError, zlib.error) as error:  # pandas' and pyarrow's parse errors are ValueErrors
        raise InputError(f"cannot read the {what} ({_one_line(error)})", where=path, hint="Make it again.") from error
    raise InputError(f"cannot read a {what} from {kind or 'a file without suffix'}", where=path, hint=_formats())


def read_json_lines(path: Path) -> list[tuple[int, dict[str, object]]]:
    """Every line of a .jsonl file as (line number from 1, object); blank lines are passed over.

    Raises:
        InputError: with file:line for what is not a JSON object.
    """
    return list(iter_json_lines(path))


def iter_json_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """``read_json_lines`` line by line, for files whose objects would not fit into memory together."""
    require_file(path)
    empty = True
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, _json_object(line, f"{path}:{number}")
                    empty = False
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read ({_one_line(error)})", where=path, hint="Is it UTF-8 text?") from error
    except (OSError, EOFError, zlib.error) as error:
        hint = "Is it whole? Make or fetch it again."
        raise InputError(f"cannot read ({_one_line(error)})", where=path, hint=hint) from error
    if empty:
        raise InputError("holds no line", where=path, hint="Make or fetch it again.")


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
    """Cells as text. A row with more cells than the header is refused: pandas alone would shift or drop its cells."""
    try:
        with open_text(path) as file, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(file, dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        width = 0
        for line, cells in _csv_rows(path):
            width = width or len(cells)
            if len(cells) > width:
                told = f"the row has {len(cells)} cells, the header of the {what} {width}"
                hint = "Quote cells that hold a comma, or delete the row."
                raise InputError(told, where=f"{path}:{line}", hint=hint) from error
        raise InputError(f"cannot read the {what} ({_one_line(error)})", where=path, hint="Make it again.") from error
    return frame.rename(columns=str.strip)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of a .csv that pandas sees, header first, each with the line in the file on which it ends."""
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
        names, found = ", ".join(missing), ", ".join(map(str, frame.columns))
        raise InputError(f"the {what} has no column {names} (it has: {found})", where=path, hint="Rename or add it.")
    if frame.empty:
        raise InputError(f"the {what} has no rows", where=path, hint="Make or fetch it again.")
    return frame


def _check_text(frame: pd.DataFrame, column: str, path: Path) -> None:
    text = frame[column].map(lambda v: v.strip() if isinstance(v, str) else "")
    empty = (text == "").to_numpy()
    if empty.any():
        row = int(np.argmax(empty))
        what = f"expected text, got {_told(frame[column].iloc[row])}"
        raise InputError(what, where=_at(path, row, column), hint="Fill the cell or delete the row.")


def _check_ids(frame: pd.DataFrame, path: Path) -> None:
    ids = frame["poi_id"]
    empty = (ids.isna() | (ids.astype(str).str.strip() == "")).to_numpy()
    if empty.any():
        hint = "Fill the cell, or drop the column: rows are numbered then."
        raise InputError("the poi_id is empty", where=_at(path, int(np.argmax(empty)), "poi_id"), hint=hint)
    twice = ids.duplicated().to_numpy()
    if twice.any():
        row = int(np.argmax(twice))
        what = f"poi_id {_told(ids.iloc[row])} appears twice"
        raise InputError(what, where=_at(path, row, "poi_id"), hint="Make ids unique.")


def _check_coordinates(frame: pd.DataFrame, path: Path) -> None:
    for column, limit in (("lng", 180.0), ("lat", 90.0)):
        numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64)
        wrong = ~np.isfinite(numbers)
        if wrong.any():
            row = int(np.argmax(wrong))
            what = f"expected degrees, got {_told(frame[column].iloc[row])}"
            raise InputError(what, where=_at(path, row, column), hint="Fill the cell or delete the row.")
        wrong = np.abs(numbers) > limit
        if wrong.any():
            row = int(np.argmax(wrong))
            what = f"{numbers[row]:g} is outside [-{limit:g}, {limit:g}]"
            hint = "Coordinates are degrees, lng before lat."
            if column == "lat" and (np.abs(frame["lng"].to_numpy(np.float64)) <= 90.0).all():
                what, hint = f"{what}: lng and lat look swapped", "Swap the two columns: lng before lat."
            raise InputError(what, where=_at(path, row, column), hint=hint)
        frame[column] = numbers


def _check_geohash(frame: pd.DataFrame, path: Path) -> None:
    """The digits of a view table tell whether its coordinates were swapped even where both fit the range."""
    if not set(GEOHASH_COLUMNS) <= set(frame.columns):
        return
    try:
        told = frame[GEOHASH_COLUMNS[:3]].astype(np.int64).to_numpy()
    except ValueError:
        return
    lng, lat = frame["lng"].to_numpy(np.float64), frame["lat"].to_numpy(np.float64)
    fits = (geohash_digits(lng, lat, 3) == told).all(axis=1)
    if fits.any():
        return
    inside = np.abs(lng) <= 90.0
    if inside.all() and (geohash_digits(lat, lng, 3) == told).all(axis=1).any():
        what = "lng and lat look swapped (the geohash columns fit the swapped pair)"
        raise InputError(what, where=_at(path, 0, "lng"), hint="Swap the two columns: lng before lat.")


def _convert(frame: pd.DataFrame, datum: Datum) -> pd.DataFrame:
    lng, lat = to_wgs84(frame["lng"], frame["lat"], datum)
    return frame.assign(lng=lng, lat=lat)


def _at(path: Path, row: int, column: str) -> str:
    """file:line: column of a row; the line is counted in the file itself, as a quoted cell may hold line breaks."""
    lines: Iterator[int] = iter(())
    if suffix_of(path) == ".csv":
        lines = (line for number, (line, _) in enumerate(_csv_rows(path)) if number > row)
    elif suffix_of(path) == ".jsonl":
        lines = (line for number, (line, _) in enumerate(iter_json_lines(path)) if number >= row)
    for line in lines:
        return f"{path}:{line}: {column}"
    return f"{path}: row {row + 1}: {column}"


def _told(value: Any) -> str:
    """A cell as a message shows it: what is no value reads as nothing."""
    if isinstance(value, np.generic):
        value = value.item()
    return "nothing" if value is None or value != value else repr(value)[:80]  # noqa: PLR0124  (NaN)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _formats() -> str:
    return f"Use one of {', '.join(READABLE)}."
