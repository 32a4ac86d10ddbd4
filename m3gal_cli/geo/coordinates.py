"""Coordinates written as text."""

from __future__ import annotations

from m3gal_cli.errors import InputError
from m3gal_cli.geo.datums import Datum, to_wgs84


def parse_lnglat(text: str, where: str, datum: Datum = "wgs84") -> tuple[float, float]:
    """Parse ``"lng,lat"`` in degrees of ``datum`` and return WGS-84 floats. Raises InputError with ``where``."""
    try:
        lng, lat = (float(part) for part in text.split(","))
    except ValueError as error:
        hint = "Write longitude, comma, latitude in degrees."
        raise InputError(f'expected "lng,lat", got {text!r}', where=where, hint=hint) from error
    if not (abs(lng) <= 180.0 and abs(lat) <= 90.0):  # also refuses NaN
        what = f"latitude {lat:g} is not between -90 and 90"
        if not abs(lng) <= 180.0:
            what = f"longitude {lng:g} is not between -180 and 180"
        elif abs(lng) <= 90.0 and abs(lat) <= 180.0:
            what += ": lng and lat look swapped"
        raise InputError(what, where=where, hint="Longitude comes before latitude, in degrees.")
    if datum == "wgs84":
        return lng, lat
    x, y = to_wgs84(lng, lat, datum)
    return float(x), float(y)
