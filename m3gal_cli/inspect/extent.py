"""Where the rows of a file lie, and which datum that seems to be, judged from the file alone."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.tables import GEOHASH_COLUMNS
from m3gal_cli.geo.coordinates import (
    GEOHASH_LENGTH,
    Datum,
    gcj02_to_wgs84,
    geohash_digits,
    haversine_m,
    wgs84_to_gcj02,
)
from m3gal_cli.geo.gcj02_area import in_china
from m3gal_cli.inspect.inspection import Inspection

CITY_KM = 300.0  # an extent beyond this is no city: stray or swapped coordinates are likely


def add_extent(found: Inspection, lng: NDArray[np.float64], lat: NDArray[np.float64]) -> None:
    """Ranges, extent in km, centre; warns of points that lie far from the bulk."""
    west, east, south, north = lng.min(), lng.max(), lat.min(), lat.max()
    middle_lng, middle_lat = float(np.median(lng)), float(np.median(lat))
    width = float(haversine_m(west, middle_lat, east, middle_lat)) / 1000.0
    height = float(haversine_m(middle_lng, south, middle_lng, north)) / 1000.0
    for name, low, high in (("lng", west, east), ("lat", south, north)):
        found.facts.append((name, f"{low:.6f} to {high:.6f}"))
        found.numbers |= {f"{name}_min": float(low), f"{name}_max": float(high)}
    found.facts.append(("extent", f"{width:.1f} km east-west, {height:.1f} km north-south"))
    found.facts.append(("centre (median)", f"{middle_lng:.6f}, {middle_lat:.6f}"))
    found.numbers |= {"width_km": width, "height_km": height, "centre_lng": middle_lng, "centre_lat": middle_lat}
    away = haversine_m(lng, lat, middle_lng, middle_lat)
    stray = away > CITY_KM * 1000.0
    if 0 < stray.sum() < len(lng) / 2:
        swapped_away = haversine_m(lat[stray], np.clip(lng[stray], -90.0, 90.0), middle_lng, middle_lat)
        nearer = int((swapped_away < CITY_KM * 1000.0).sum())
        what = f"{int(stray.sum()):,} places lie more than {CITY_KM:g} km from the centre"
        found.warnings.append(what + (f"; {nearer:,} of them look swapped (lat before lng)." if nearer else "."))
    at_zero = int(((lng == 0) & (lat == 0)).sum())
    if at_zero:
        found.warnings.append(f"{at_zero:,} places lie at (0, 0), where no POI is: unknown coordinates?")


def add_datum(found: Inspection, raw: pd.DataFrame, datum: Datum) -> None:
    """Say which datum the table seems to be in: the geohash digits can tell, the coordinates alone cannot."""
    lng, lat = raw["lng"].to_numpy(float), raw["lat"].to_numpy(float)
    metres = shift_m(lng, lat)
    digits = _digits(raw)
    if digits is None:
        add_datum_fact(found, metres, datum)
        return
    fits = {"as they are": _share(lng, lat, digits)}
    if metres is not None:
        fits["after GCJ-02 -> WGS-84"] = _share(*gcj02_to_wgs84(lng, lat), digits)
        fits["after WGS-84 -> GCJ-02"] = _share(*wgs84_to_gcj02(lng, lat), digits)
    sound = fits["as they are"] >= 0.99
    shown = ", ".join(f"{share:.1%} {how}" for how, share in fits.items() if share or how == "as they are")
    found.facts.append(("geohash digits that fit the coordinates", shown))
    found.numbers["geohash_fit"] = fits["as they are"]
    best = max(fits, key=lambda how: fits[how])
    if not sound:
        told = f"{1 - fits['as they are']:.1%} of the rows have geohash digits that do not fit their coordinates"
        if best != "as they are" and fits[best] > 0.9:
            told += f"; they fit {best}: coordinates and digits are of different datums (shift about {metres:.0f} m)"
        found.warnings.append(f"{told}.")
    add_datum_fact(found, metres, datum)


def add_datum_fact(found: Inspection, metres: float | None, datum: Datum) -> None:
    """``metres``: how far GCJ-02 lies from WGS-84 there, None outside China."""
    told = "outside China: WGS-84 and GCJ-02 are the same there, no shift applies"
    if metres is not None:
        told = f"read as {datum}; which one it is cannot be told from the file alone"
        told += f" (GCJ-02 lies about {metres:.0f} m from WGS-84 there)"
    found.facts.append(("datum", told))
    found.numbers["gcj02_shift_m"] = metres


def shift_m(lng: NDArray[np.float64], lat: NDArray[np.float64]) -> float | None:
    """Median metres by which GCJ-02 moves the places that lie in China; None if none does."""
    inside = in_china(lng, lat)
    if not inside.any():
        return None
    x, y = lng[inside], lat[inside]
    return float(np.median(haversine_m(x, y, *wgs84_to_gcj02(x, y))))


def _digits(raw: pd.DataFrame) -> NDArray[np.int64] | None:
    if not set(GEOHASH_COLUMNS) <= set(raw.columns):
        return None
    try:
        return raw[GEOHASH_COLUMNS].astype(np.int64).to_numpy()
    except (ValueError, TypeError):  # a cell that is no digit fits nothing
        return raw[GEOHASH_COLUMNS].apply(pd.to_numeric, errors="coerce").fillna(-1).to_numpy(np.int64)


def _share(lng: NDArray[np.float64], lat: NDArray[np.float64], digits: NDArray[np.int64]) -> float:
    return float((geohash_digits(lng, lat, GEOHASH_LENGTH) == digits).all(axis=1).mean())
