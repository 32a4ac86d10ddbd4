"""Table files of every format with the same rows, made by other libraries than the reader uses where there is one."""

from __future__ import annotations

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any

import openpyxl
import pandas as pd

NAMES = ["湖边小吃店", "Café Müller", "市图书馆, 东门", 'The "Old" Mill', "停车场\n北", "Kahvila"]
ROWS = [
    {"id": f"n{i}", "name": name, "street": f"Mill Lane {i}", "lat": 60.1 + i / 8, "lng": 24.9 + i / 8}
    for i, name in enumerate(NAMES)
]
PHOTON_HEADER = {"type": "NominatimDumpFile", "content": {"version": "0.1.0", "features": {"sorted_by_country": True}}}


def csv_text(rows: list[dict[str, Any]] = ROWS, **options: Any) -> str:
    """Return rows as CSV, as pandas writes it."""
    return pd.DataFrame(rows).to_csv(index=False, lineterminator="\n", **options)


def feature(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row as a GeoJSON Feature."""
    own = {k: v for k, v in row.items() if k not in ("lat", "lng", "id")}
    point = {"type": "Point", "coordinates": [row["lng"], row["lat"]]}
    return {"type": "Feature", "id": row["id"], "properties": own, "geometry": point}


def collection(**members: Any) -> dict[str, Any]:
    """Return the rows as a FeatureCollection."""
    return {"type": "FeatureCollection", **members, "features": [feature(row) for row in ROWS]}


def geonames() -> str:
    """Return rows of a GeoNames dump."""
    end = "P\tPPL\tFI\t\t01\t091\t\t\t0\t\t26\tEurope/Helsinki\t2019-11-26"
    lines = [f'65822{i}\tHel"sinki {i}\tHelsinki\tHelsingfors\t60.1{i}\t24.9{i}\t{end}\n' for i in range(6)]
    return "".join(lines)


def photon() -> str:
    """Return a Photon dump of three places in two objects."""
    places = [
        {"place_id": i, "object_type": "N", "object_id": 70 + i, "categories": ["osm.amenity.cafe"], "importance": 0.1}
        | {"rank_address": 30, "name": {"name": f"P{i}", "name:sv": "Ö"}, "housenumber": str(i), "extra": {}}
        | {"address": {"street": "Mill Lane", "city": "Helsinki"}, "country_code": "fi", "centroid": [24.9, 60.0 + i]}
        for i in range(3)
    ]
    country = {"type": "CountryInfo", "content": [{"country_code": "fi", "name": {"name": "Suomi"}}]}
    contents: list[Any] = [places[:2], places[2]]
    return "".join(
        json.dumps(o, ensure_ascii=False) + "\n"
        for o in (PHOTON_HEADER, country, *({"type": "Place", "content": c} for c in contents))
    )


def workbook(rows: list[list[Any]], *others: str) -> bytes:
    """Return an Excel workbook: the first sheet with rows, and empty sheets with these names."""
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for name in others:
        book.create_sheet(name)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def parquet(frame: pd.DataFrame | None = None) -> bytes:
    """Return a Parquet file, with a nested column if no frame is given."""
    file = io.BytesIO()
    nested = [{"primary": row["name"], "common": [("en", "x")]} for row in ROWS]
    (pd.DataFrame(ROWS).assign(names=nested) if frame is None else frame).to_parquet(file)
    return file.getvalue()


def zipped(**files: bytes | str) -> bytes:
    """Return a .zip archive; a double underscore in a name is a dot."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "."), content)
    return file.getvalue()


# A small file of every format, by name.
FILES: dict[str, Callable[[], bytes]] = {
    "comma.csv": lambda: csv_text().encode(),
    "semicolon.csv": lambda: csv_text(sep=";", decimal=",").encode("gb18030", "replace"),
    "utf16.txt": lambda: csv_text(sep="\t").encode("utf-16"),
    "packed.csv.gz": lambda: gzip.compress(csv_text().encode(), mtime=0),
    "dump.txt": lambda: geonames().encode(),
    "archive.zip": lambda: zipped(FI__txt=geonames(), readme__txt="about"),
    "rows.jsonl": lambda: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode(),
    "collection.geojson": lambda: json.dumps(collection(), ensure_ascii=False, indent=1).encode(),
    "features.geojsonl": lambda: "\n".join(json.dumps(feature(row)) for row in ROWS).encode(),
    "search.json": lambda: json.dumps(ROWS, ensure_ascii=False).encode(),
    "photon.json": lambda: photon().encode(),
    "places.parquet": parquet,
    "sheet.xlsx": lambda: workbook([list(ROWS[0]), *(list(row.values()) for row in ROWS)]),
}
