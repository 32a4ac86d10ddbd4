"""Tables of a made-up Chinese city in the form that ``data osm`` writes: POI table, view table and facts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from m3gal_cli.data.tables import write_pois, write_views

CATEGORIES = (
    ["amenity=cafe"] * 60 + ["shop=kiosk"] * 40 + ["railway=station"] * 15 + ["address"] * 4 + ["craft=shoemaker"]
)
CITY_PLACES = len(CATEGORIES)


def city_pois(name: str = "店{}") -> pd.DataFrame:
    """Return a POI table of CITY_PLACES places at random positions, with ids, names and categories."""
    generator, names = np.random.default_rng(5), [name.format(i) for i in range(CITY_PLACES)]
    frame = pd.DataFrame({"poi_id": [f"n{i}" for i in range(CITY_PLACES)], "name": names})
    lng, lat = 120.1 + generator.random(CITY_PLACES) / 10, 30.2 + generator.random(CITY_PLACES) / 10
    return frame.assign(address=frame["name"] + ",学府路", lng=lng, lat=lat, category=CATEGORIES)


def city_views(pois: pd.DataFrame) -> pd.DataFrame:
    """Return two pairs per place, each with the POI row on one side; the second pair appears twice."""
    columns = pois[["poi_id", "lng", "lat"]]
    gate = columns.assign(address1=pois["name"] + "东门", address2=pois["address"], kind1="gate", kind2="poi")
    corner = columns.assign(address1=pois["address"], address2="路口" + pois["name"], kind1="poi", kind2="corner")
    return pd.concat([gate, corner, corner], ignore_index=True)


def city_facts(pois: pd.DataFrame) -> pd.DataFrame:
    """Return a facts table: a street for two places in three, a number for one in five, null for the others."""
    i = np.arange(len(pois))
    frame = pois[["poi_id", "name", "category"]].assign(words="茶馆", street=np.where(i % 3 > 0, "学府路", None))
    frame["street_by_address"] = i % 2 == 0
    frame["street_metres"] = np.where(i % 3 > 0, 12.4, np.nan).astype(np.float32)
    frame["street_bearing"] = np.float32(359.0)
    frame["housenumber"] = np.where(i % 5 == 0, "7", None)
    frame["crossing_a"], frame["crossing_b"] = "学府路", "文一路"
    frame["crossing_metres"], frame["crossing_bearing"] = np.float32(99.6), np.float32(134.0)
    frame["area"] = np.where(i % 4 == 0, "东村", None)
    frame["area_bearing"] = np.float32(200.0)
    frame["alt_names"] = np.where(i == 3, '{"name:en": "Three"}', None)
    frame["admin"] = '{"6": "西湖区", "4": "浙江省"}'
    return frame.assign(group=i // 2, lng=pois["lng"], lat=pois["lat"], geometry=b"\x01")


def write_city(folder: Path, pois: pd.DataFrame) -> Path:
    """Write the three tables of a city with the suffix "t" into a folder, and return the folder."""
    write_pois(pois, folder / "poi_database_t.csv")
    write_views(city_views(pois), folder / "same_poi_views_t.csv")
    city_facts(pois).to_parquet(folder / "facts_t.parquet")
    return folder
