"""Recognise the format of a table file by its suffix and its first bytes; unpack .zip archives."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path

from m3gal_cli.data.formats.encodings import refuse_binary
from m3gal_cli.data.formats.source import Source
from m3gal_cli.errors import InputError
from m3gal_cli.files import suffix_of

SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".tab": "csv", ".txt": "csv", ".parquet": "parquet", ".geoparquet": "parquet",
    ".json": "json", ".jsonl": "json", ".ndjson": "json", ".geojson": "json", ".geojsonl": "json", ".xlsx": "xlsx",
    ".zip": "zip",
}  # fmt: skip
SUPPORTED = "Use one of .csv, .tsv, .txt, .parquet, .jsonl, .geojson, .json, .xlsx; .gz and .zip are unpacked."
NAMES = {"csv": "text", "parquet": "a Parquet file", "json": "JSON", "xlsx": "an Excel workbook", "zip": "an archive"}
# First bytes of files that people give by mistake, and what to do.
REFUSED = [
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls), or one with a password", "Save it as .xlsx or .csv."),
    (b"SQLite format 3", "a SQLite or GeoPackage database", "Export the table as .csv or .parquet."),
    (b"%PDF", "a PDF document", "Give a table."),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it."),
    (b"BZh", "packed with bzip2", "Unpack it."),
    (b"\x28\xb5\x2f\xfd", "packed with zstd", "Unpack it."),
]
_JSON = re.compile(rb"[\[{]\s*[\[{\"\]}]")
PARQUET, ZIP = b"PAR1", b"PK\x03\x04"


def recognise_format(source: Source) -> str:
    """Return the format of a file: csv, parquet, json, xlsx or zip. The content decides, if it is clear.

    Raises:
        InputError: The file is none of these.
    """
    suffix = suffix_of(source.path)
    head = source.head(4096) if source.size else b""
    for mark, what, hint in REFUSED:
        if head.startswith(mark):
            raise InputError(f"this is {what}", where=source.name, hint=hint)
    if head.startswith(PARQUET):
        return "parquet"
    if head.startswith(ZIP):
        return "xlsx" if _is_workbook(source) else "zip"
    by_suffix = SUFFIXES.get(suffix)
    if by_suffix in ("parquet", "xlsx", "zip"):
        what = f"cannot read the file (its name ends in {suffix}, but it is not {NAMES[by_suffix]})"
        raise InputError(what, where=source.name, hint="Is it complete? Make or fetch it again.")
    refuse_binary(source)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n\x1e\xff\xfe\0").replace(b"\0", b"")  # UTF-16 has zeros
    if start[:1] == b"<":
        what = f"this is {'a web page' if b'<html' in head.lower() else 'XML'}, not a table"
        raise InputError(what, where=source.name, hint="Was the download refused? Open it in a text editor.")
    if by_suffix == "json" or _JSON.match(start):
        return "json"
    if by_suffix is None and suffix:
        raise InputError(f"cannot read a table from {suffix}", where=source.name, hint=SUPPORTED)
    return "csv"


def reads_by_line(source: Source, encoding: str) -> bool:
    """Return whether each line of a JSON file is an object: its suffix says so, or the first line shows it."""
    lines_expected = suffix_of(source.path) in (".jsonl", ".ndjson", ".geojsonl")
    text = source.head(1 << 20).decode(encoding, "replace").lstrip("\ufeff \t\r\n\x1e")
    first, _, rest = text.partition("\n")
    try:
        value = json.loads(first)
    except json.JSONDecodeError as error:  # the value goes on in the next line, or the first line is damaged
        return lines_expected and error.pos < len(first.rstrip())
    except (ValueError, RecursionError):
        return lines_expected
    if not isinstance(value, dict) or isinstance(value.get("features"), list):
        return False
    return lines_expected or rest.lstrip("\r\n\x1e \t").startswith("{")


def unpack(source: Source, resources: ExitStack) -> Source:
    """Unpack the one table of a .zip archive into a temporary folder, which is removed with ``resources``.

    Raises:
        InputError: The archive is damaged, or it has no table or several.
    """
    try:
        with zipfile.ZipFile(source.path) as archive:
            tables = [info for info in archive.infolist() if _is_table(info)]
            if len(tables) != 1:
                names = ", ".join(info.filename for info in tables[:5])
                what = f"the archive has {len(tables) or 'no'} tables{f' ({names})' * bool(names)}"
                raise InputError(what, where=source.name, hint="Unpack it and give one table.")
            folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="m3gal_")))
            path = folder / Path(tables[0].filename).name
            with archive.open(tables[0]) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, 1 << 20)
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error, ValueError, RuntimeError, NotImplementedError) as error:
        what = f"cannot unpack the archive ({error})"
        raise InputError(what, where=source.name, hint="Unpack it and give the table.") from error
    return Source(path, f"{source.name}/{tables[0].filename}")


def _is_table(info: zipfile.ZipInfo) -> bool:
    path = Path(info.filename)
    hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
    readme = path.stem.lower().startswith(("readme", "license"))
    return not info.is_dir() and not hidden and not readme and suffix_of(path) in set(SUFFIXES) - {".zip"}


def _is_workbook(source: Source) -> bool:
    try:
        with zipfile.ZipFile(source.path) as archive:
            return any(name.startswith("xl/") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return suffix_of(source.path) == ".xlsx"
