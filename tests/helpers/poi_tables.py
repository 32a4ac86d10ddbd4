"""POI tables in the published schemas, made from a POI table of ``data osm``."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from m3gal_cli.data.geoparquet import wkb_points

OVERTURE = pa.schema(
    [
        ("id", pa.string()),
        ("geometry", pa.binary()),
        ("bbox", pa.struct([(name, pa.float32()) for name in ("xmin", "xmax", "ymin", "ymax")])),
        ("version", pa.int32()),
        ("sources", pa.list_(pa.struct([("property", pa.string()), ("dataset", pa.string())]))),
        ("names", pa.struct([("primary", pa.string()), ("common", pa.map_(pa.string(), pa.string()))])),
        ("categories", pa.struct([("primary", pa.string()), ("alternate", pa.list_(pa.string()))])),
        ("taxonomy", pa.struct([("primary", pa.string()), ("hierarchy", pa.list_(pa.string()))])),
        ("confidence", pa.float64()),
        ("websites", pa.list_(pa.string())),
        ("phones", pa.list_(pa.string())),
        ("brand", pa.struct([("wikidata", pa.string()), ("names", pa.struct([("primary", pa.string())]))])),
        (
            "addresses",
            pa.list_(pa.struct([(n, pa.string()) for n in ("freeform", "locality", "postcode", "region", "country")])),
        ),
        ("operating_status", pa.string()),
    ]
)


def overture_rows(pois: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the named POIs of a table of ``data osm`` as Overture places, in the order of the table."""
    rows = []
    for poi in _named(pois).itertuples():
        code = _category(poi) or None
        freeform = " ".join(filter(None, (poi.street, poi.housenumber))) or None
        address = {
            "freeform": freeform,
            "locality": poi.city or None,
            "postcode": None,
            "region": None,
            "country": "FI",
        }
        rows.append(
            {
                "id": _uuid(poi.poi_id),
                "geometry": wkb_points(np.array([poi.lng]), np.array([poi.lat]))[0].as_py(),
                "bbox": {"xmin": poi.lng, "xmax": poi.lng, "ymin": poi.lat, "ymax": poi.lat},
                "version": 1,
                "sources": [{"property": "", "dataset": "meta"}],
                "names": {"primary": poi.name, "common": None},
                "categories": {"primary": code, "alternate": None},
                "taxonomy": {"primary": code, "hierarchy": code and ["place", code]},
                "confidence": 0.9,
                "websites": None,
                "phones": None,
                "brand": None,
                "addresses": [address],
                "operating_status": "open",
            }
        )
    return rows


def write_overture(pois: pd.DataFrame, path: Path) -> Path:
    """Write a POI table as an Overture parquet file; see ``overture_rows``."""
    pq.write_table(pa.Table.from_pylist(overture_rows(pois), OVERTURE), path)
    return path


def foursquare_frame(pois: pd.DataFrame) -> pd.DataFrame:
    """Return the named POIs as Foursquare places: ``address`` is the street alone."""
    named = _named(pois)
    streets = [" ".join(filter(None, pair)) or None for pair in zip(named["street"], named["housenumber"], strict=True)]
    codes = [_category(poi) for poi in named.itertuples()]
    labels = [[f"Places > {code.replace('_', ' ').title()}"] if code else None for code in codes]
    return pd.DataFrame(
        {
            "fsq_place_id": [_uuid(poi_id).replace("-", "")[:24] for poi_id in named["poi_id"]],
            "name": named["name"].to_numpy(),
            "latitude": named["lat"].to_numpy(),
            "longitude": named["lng"].to_numpy(),
            "address": streets,
            "locality": named["city"].to_numpy(),
            "region": None,
            "postcode": None,
            "country": "FI",
            "date_closed": None,
            "tel": None,
            "fsq_category_labels": labels,
        }
    )


def write_foursquare(pois: pd.DataFrame, path: Path) -> Path:
    """Write a POI table as a Foursquare parquet file; see ``foursquare_frame``."""
    foursquare_frame(pois).to_parquet(path, index=False)
    return path


def _named(pois: pd.DataFrame) -> pd.DataFrame:
    return pois[pois["name"].fillna("") != ""].reset_index(drop=True)


def _category(poi: Any) -> str:
    """Return the value of a category of OpenStreetMap: fast_food of amenity=fast_food."""
    return str(poi.category).partition("=")[2].replace("yes", "")


def _uuid(poi_id: str) -> str:
    digits = hashlib.md5(poi_id.encode(), usedforsecurity=False).hexdigest()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
