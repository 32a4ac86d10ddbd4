"""Extent of the coordinates of a file, and evidence for their datum in the file itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from m3gal_cli.data.tables import GEOHASH_COLUMNS
from m3gal_cli.geo.datums import Datum, to_wgs84, wgs84_to_gcj02
from m3gal_cli.geo.distances import Floats, haversine_m
from m3gal_cli.geo.gcj02_area import in_gcj02_area
from m3gal_cli.geo.geohash import GEOHASH_LENGTH, geohash_digits
from m3gal_cli.inspect.inspection import Inspection

CITY_KM = 300.0  # points farther from the median are probably stray or swapped coordinates
GEOHASH_FIT = 0.99  # share of rows with matching geohash digits below which a warning is given


def add_extent(inspection: Inspection, lng: Floats, lat: Floats) -> None:
    """Add coordinate ranges, extent in km and median centre; warn of points far from the centre or at (0, 0)."""
    west, east, south, north = lng.min(), lng.max(), lat.min(), lat.max()
    centre_lng, centre_lat = float(np.median(lng)), float(np.median(lat))
    width = float(haversine_m(west, centre_lat, east, centre_lat)) / 1000.0
    height = float(haversine_m(centre_lng, south, centre_lng, north)) / 1000.0
    for name, low, high in (("lng", west, east), ("lat", south, north)):
        inspection.facts.append((name, f"{low:.6f} to {high:.6f}"))
        inspection.numbers |= {f"{name}_min": float(low), f"{name}_max": float(high)}
    inspection.facts.append(("extent", f"{width:.1f} km east-west, {height:.1f} km north-south"))
    inspection.facts.append(("centre (median)", f"{centre_lng:.6f}, {centre_lat:.6f}"))
    inspection.numbers |= {"width_km": width, "height_km": height, "centre_lng": centre_lng, "centre_lat": centre_lat}
    stray = haversine_m(lng, lat, centre_lng, centre_lat) > CITY_KM * 1000.0
    if 0 < stray.sum() < len(lng) / 2:
        swapped_m = haversine_m(lat[stray], np.clip(lng[stray], -90.0, 90.0), centre_lng, centre_lat)
        swapped = int((swapped_m < CITY_KM * 1000.0).sum())
        message = f"{int(stray.sum()):,} places lie more than {CITY_KM:g} km from the centre"
        inspection.warnings.append(
            message + (f"; {swapped:,} of them look swapped (lat before lng)." if swapped else ".")
        )
    at_zero = int(((lng == 0) & (lat == 0)).sum())
    if at_zero:
        inspection.warnings.append(f"{at_zero:,} places lie at (0, 0): the coordinates are probably missing.")


def add_geohash_fit(inspection: Inspection, raw: pd.DataFrame) -> None:
    """Add the share of rows whose geohash digits match their coordinates, if the table has geohash columns.

    Digits that match only after a conversion show that coordinates and digits are in different datums. ``raw`` has the
    coordinates of the file, before any conversion.
    """
    digits = _digits(raw)
    if digits is None:
        return
    lng, lat = raw["lng"].to_numpy(float), raw["lat"].to_numpy(float)
    offset_m = gcj02_offset_m(lng, lat)
    unchanged = "without conversion"
    fits = {unchanged: _share_matching(lng, lat, digits)}
    if offset_m is not None:
        fits["after GCJ-02 -> WGS-84"] = _share_matching(*to_wgs84(lng, lat, "gcj02"), digits)
        fits["after WGS-84 -> GCJ-02"] = _share_matching(*wgs84_to_gcj02(lng, lat), digits)
    text = ", ".join(f"{share:.1%} {how}" for how, share in fits.items() if share or how == unchanged)
    inspection.facts.append(("geohash digits that match the coordinates", text))
    inspection.numbers["geohash_fit"] = fits[unchanged]
    if fits[unchanged] >= GEOHASH_FIT:
        return
    message = f"{1 - fits[unchanged]:.1%} of the rows have geohash digits that do not match their coordinates"
    best = max(fits, key=lambda how: fits[how])
    if best != unchanged and fits[best] > 0.9:
        message += (
            f"; they match {best}: coordinates and digits are in different datums (offset about {offset_m:.0f} m)"
        )
    inspection.warnings.append(f"{message}.")


def add_datum(inspection: Inspection, lng: Floats, lat: Floats, datum: Datum) -> None:
    """Add the datum in which the file is read, and the offset of GCJ-02 at its unconverted coordinates.

    Shape: lng: (N,); lat: (N,).
    """
    offset_m = gcj02_offset_m(lng, lat)
    text = "outside China, where WGS-84 and GCJ-02 are equal"
    if offset_m is not None:
        text = f"read as {datum}; the file alone does not show whether that is right"
        text += f" (GCJ-02 is offset by about {offset_m:.0f} m from WGS-84 there)"
    inspection.facts.append(("datum", text))
    inspection.numbers["gcj02_shift_m"] = offset_m


def gcj02_offset_m(lng: Floats, lat: Floats) -> float | None:
    """Return the median offset in metres of GCJ-02 from WGS-84 over the points in China; None if none is there."""
    inside = in_gcj02_area(lng, lat)
    if not inside.any():
        return None
    x, y = lng[inside], lat[inside]
    return float(np.median(haversine_m(x, y, *wgs84_to_gcj02(x, y))))


def _digits(raw: pd.DataFrame) -> NDArray[np.int64] | None:
    if not set(GEOHASH_COLUMNS) <= set(raw.columns):
        return None
    # An invalid cell becomes -1, which matches no digit.
    return raw[GEOHASH_COLUMNS].apply(pd.to_numeric, errors="coerce").fillna(-1).to_numpy(np.int64)


def _share_matching(lng: Floats, lat: Floats, digits: NDArray[np.int64]) -> float:
    return float((geohash_digits(lng, lat, GEOHASH_LENGTH) == digits).all(axis=1).mean())
