"""A schema: which columns of a table give the id, the texts and the coordinates of its POIs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from m3gal_cli.data.schemas import address_text as text
from m3gal_cli.data.schemas.geonames import category_words
from m3gal_cli.data.schemas.mapping import ROLES
from m3gal_cli.data.schemas.names import DATUMS, SHIFTED
from m3gal_cli.data.schemas.sources import (
    as_text,
    complete_texts_of,
    has_path,
    is_point,
    is_template,
    is_text,
    paths_of,
    texts_of,
    values_of,
)
from m3gal_cli.geo.geometries import geometry_points

CANONICAL = {"id": "poi_id", "name": "name", "address": "address", "lng": "lng", "lat": "lat"}  # columns by role
LIMIT = {"lng": 180.0, "lat": 90.0}  # degrees
POINT_ROLES = ("lat_lng", "lng_lat", "geometry")
CLOSED_FOR_GOOD = ("permanently_closed", "closed_permanently")
NO_DEGREES = "Convert projected coordinates to degrees (WGS-84). Divide numbers such as 249381000 by 1e7."
_ANGLE = (
    r"^(?P<before>[NSEWnsew]?)\s*(?P<d>[-+]?\d+(?:\.\d+)?)\s*°\s*(?:(?P<m>\d+(?:\.\d+)?)\s*['’′]\s*)?"
    r"(?:(?P<s>\d+(?:\.\d+)?)\s*(?:\"|”|″|''|′′)\s*)?(?P<behind>[NSEWnsew]?)$"
)
_NUMBER = r"[-+]?\d+(?:\.\d+)?"
_PAIR = rf"^[\[(\s]*(?P<a>{_NUMBER})\s*[,;\s]\s*(?P<b>{_NUMBER})[\])\s]*$"
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PoiColumns:
    """The columns of POIs that were made from a batch of N rows; not validated.

    Attributes:
        ids: The ids, in their type; None if the table has no id column.
        address: The address texts; a value that is no text is null.
        name: The names; None if the table has none.
        lng: Degrees, NaN where the value is no number.
        lat: Degrees, NaN where the value is no number.
        closed: Whether the POI is closed for good.
    """

    ids: pa.Array | None
    address: pa.StringArray
    name: pa.StringArray | None
    lng: Floats
    lat: Floats
    closed: NDArray[np.bool_]


@dataclass(frozen=True)
class Schema:
    """The schema of a POI table.

    Attributes:
        name: own table, m3gal, overture, foursquare, geonames, nominatim, photon, amap, baidu, tencent or geojson.
        sources: By role, the columns, paths and templates that give its value; the first one with a value counts.
        name_first: Whether the name is put before an address text that does not contain it.
    """

    name: str
    sources: Mapping[str, tuple[str, ...]]
    name_first: bool = False

    def describe(self) -> list[tuple[str, str]]:
        """Return role and source of all roles in use, in a fixed order."""
        return [(role, " or ".join(self.sources[role])) for role in ROLES if role in self.sources]

    def to_json(self) -> dict[str, Any]:
        """Return the schema as plain values; ``from_json`` reads them."""
        columns = {role: list(sources) for role, sources in self.sources.items()}
        return {"name": self.name, "columns": columns, "name_first": self.name_first}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Schema:
        """Return the schema that ``to_json`` described."""
        columns = {str(role): tuple(map(str, sources)) for role, sources in value["columns"].items()}
        return cls(str(value["name"]), columns, bool(value["name_first"]))

    @property
    def datum(self) -> str | None:
        """The shifted datum that the names of the coordinates say, or the service usually gives; None without one."""
        roles = ("lng", "lat", *POINT_ROLES)
        names = "".join(source for role in roles for source in self.sources.get(role, ())).casefold()
        by_name = (datum for word, datum in SHIFTED.items() if word in names)
        return next(by_name, None if "wgs" in names else DATUMS.get(self.name))

    def missing_columns(self, schema: pa.Schema) -> list[str]:
        """Return the first columns of roles of which a table has no source at all."""
        return [
            sources[0]
            for sources in self.sources.values()
            if not any(has_path(schema, path) for source in sources for path in paths_of(source))
        ]

    def column_of(self, role: str) -> str:
        """Return the column that messages about a role name."""
        if role in ("lng", "lat") and role not in self.sources:
            role = next(other for other in POINT_ROLES if other in self.sources)
        elif role == "address":
            role = next((other for other in ("address", "name", "street") if other in self.sources), "address")
        return self.sources.get(role, (role,))[0]

    def apply(self, table: pa.Table) -> PoiColumns:
        """Make the columns of POIs. Does not raise."""
        lng, lat = self._coordinates(table)
        return PoiColumns(self._ids(table), self._address(table), self._name(table), lng, lat, self._closed(table))

    def own_name(self, column: str) -> str | None:
        """Return the name of an own column beside the canonical ones; None for a column that is itself canonical.

        An own column ``address`` that is not the address text becomes ``address_source``.
        """
        role = next((role for role, canonical in CANONICAL.items() if canonical == column), None)
        if role is None or (role == "name" and "name" not in self.sources):
            return column
        is_text = role != "address" or not self.name_first
        return None if self.sources.get(role) == (column,) and is_text else f"{column}_source"

    def _name(self, table: pa.Table) -> pa.StringArray | None:
        """Return the names unchanged, with their commas."""
        sources = self.sources.get("name")
        if sources is None:
            return None
        if len(sources) == 1 and not is_template(sources[0]):
            values = values_of(table, sources[0])
            if is_text(values.type):
                return values
        return self._first_text(table, "name", keep_commas=True)

    def _address(self, table: pa.Table) -> pa.StringArray:
        missing = pa.nulls(len(table), pa.string())
        name = self._first_text(table, "name")
        if "address" in self.sources and not self._is_split(table):
            (source,) = self.sources["address"]
            address = texts_of(table, source) if is_template(source) else _unchanged_texts(values_of(table, source))
            return _with_name_first(address, name) if self.name_first else address

        def part(role: str) -> pa.StringArray:
            return self._first_text(table, role) if role in self.sources else missing

        city, street = part("city"), self._first_text(table, "street", keep_commas=True)
        street = text.without_districts(street, part("region"), city, part("district"))
        street, district = text.split_freeform(street, part("district"), city)
        door = text.doors(street, part("number"), part("unit"))
        names = text.with_other_names(name, self._other_names(table), part("brand"))
        district = text.districts(district, city, part("region"))
        composed = text.join_parts(names, self._category(table), door, district)
        whole = self.sources.get("address")
        return composed if whole is None else pc.coalesce(composed, _unchanged_texts(values_of(table, whole[0])))

    def _is_split(self, table: pa.Table) -> bool:
        """Return whether the parts of the address are in the table, beside the text that is used without them."""
        return "street" in self.sources and any(
            not pa.types.is_null(values_of(table, path).type)
            for role in ("street", "city")
            for path in self.sources.get(role, ())
        )

    def _first_text(self, table: pa.Table, role: str, *, keep_commas: bool = False) -> pa.StringArray:
        texts = [texts_of(table, source, keep_commas=keep_commas) for source in self.sources.get(role, ())]
        return pc.coalesce(*texts) if texts else pa.nulls(len(table), pa.string())

    def _category(self, table: pa.Table) -> pa.StringArray:
        sources = self.sources.get("category", ())
        if self.name == "geonames" and sources:
            return category_words(as_text(values_of(table, sources[0])))
        values = [texts_of(table, s) if is_template(s) else values_of(table, s) for s in sources]
        return pc.coalesce(*map(text.categories, values)) if values else pa.nulls(len(table), pa.string())

    def _other_names(self, table: pa.Table) -> list[pa.Array]:
        sources = self.sources.get("other_names", ())
        values = (texts_of(table, s, keep_commas=True) if is_template(s) else values_of(table, s) for s in sources)
        return [value for value in values if not pa.types.is_null(value.type)]

    def _ids(self, table: pa.Table) -> pa.Array | None:
        sources = self.sources.get("id", ())
        if not sources:
            return None
        if len(sources) == 1 and not is_template(sources[0]):
            values = values_of(table, sources[0])
            if pa.types.is_floating(values.type):
                whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), float(2**53)))
                return pc.if_else(whole, values, None).cast(pa.int64())
            return values if pa.types.is_integer(values.type) or is_text(values.type) else as_text(values)
        return pc.coalesce(
            *(complete_texts_of(table, s) if is_template(s) else as_text(values_of(table, s)) for s in sources)
        )

    def _closed(self, table: pa.Table) -> NDArray[np.bool_]:
        closed = np.zeros(len(table), bool)
        for source in self.sources.get("closed", ()):
            values = texts_of(table, source)
            if self.name == "overture":
                values = pc.if_else(pc.is_in(values, pa.array(CLOSED_FOR_GOOD)), values, None)
            closed |= values.is_valid().to_numpy(zero_copy_only=False)
        return closed

    def _coordinates(self, table: pa.Table) -> tuple[Floats, Floats]:
        lng, lat = np.full(len(table), np.nan), np.full(len(table), np.nan)
        if "lng" in self.sources:
            lng, lat = (degrees(values_of(table, self.sources[role][0])) for role in ("lng", "lat"))
        for role in POINT_ROLES:
            if role in self.sources and np.isnan(lng).all():
                (source, *_), kind = self.sources[role], role
                values = values_of(table, source)
                lng, lat = _points(values) if kind == "geometry" else _pairs(values, kind)
        return lng, lat


def degrees(values: pa.Array) -> Floats:
    """Return numbers, and texts of them, as float64; NaN for other values.

    Texts may have a decimal comma (degrees have no thousands), full-width digits, or degrees, minutes and seconds.

    Shape: (N,) -> (N,).
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if is_text(kind):
        texts = _plain(pc.utf8_trim_whitespace(values.cast(pa.string())))
        texts = pc.replace_substring(texts, ",", ".")
        angles = _angles(texts)
        numeric = pc.match_substring_regex(texts, r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$")
        texts = pc.if_else(numeric, pc.utf8_ltrim(texts, "+"), None)
        found: Floats = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return found if angles is None else np.where(np.isfinite(found), found, angles)
    if pa.types.is_boolean(kind) or not (
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    ):
        return np.full(len(values), np.nan)
    numbers: Floats = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False).astype(np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def pair_values(values: pa.Array) -> tuple[Floats, Floats]:
    """Return the two numbers of texts such as "60.17, 24.94", in their order; NaN for other texts."""
    texts = pc.replace_substring(_plain(as_text(values)), "°", "")
    pairs = pc.extract_regex(texts, _PAIR)
    return degrees(pc.struct_field(pairs, "a")), degrees(pc.struct_field(pairs, "b"))


def _plain(texts: pa.StringArray) -> pa.StringArray:
    """Return texts with full-width digits and punctuation in ASCII."""
    if pc.all(pc.string_is_ascii(texts)).as_py() is not False:
        return texts
    return pc.utf8_normalize(pc.replace_substring(texts, "º", "°"), form="NFKC")


def _angles(texts: pa.StringArray) -> Floats | None:
    """Return texts such as 60°10'30"N in degrees; NaN for others. None if no text has a degree sign."""
    if not pc.any(pc.match_substring(texts, "°")).as_py():
        return None
    parts = pc.extract_regex(texts, _ANGLE)

    def numbers(name: str) -> Floats:
        part = pc.struct_field(parts, name)
        part = pc.utf8_ltrim(pc.if_else(pc.equal(part, ""), "0", part), "+-")
        found: Floats = part.cast(pa.float64()).to_numpy(zero_copy_only=False)
        return found

    degrees, minutes, seconds = numbers("d"), numbers("m"), numbers("s")
    side = pc.binary_join_element_wise(pc.struct_field(parts, "before"), pc.struct_field(parts, "behind"), "")
    negative = pc.or_(pc.match_substring_regex(side, "[SWsw]"), pc.starts_with(pc.struct_field(parts, "d"), "-"))
    valid = (minutes < 60) & (seconds < 60)
    sign = np.where(pc.fill_null(negative, False).to_numpy(zero_copy_only=False), -1, 1)
    return np.where(valid, sign * (degrees + minutes / 60 + seconds / 3600), np.nan)


def _pairs(values: pa.Array, role: str) -> tuple[Floats, Floats]:
    first, second = pair_values(values)
    return (second, first) if role == "lat_lng" else (first, second)


def _points(values: pa.Array) -> tuple[Floats, Floats]:
    """Return a point of each geometry: WKB, WKT, GeoJSON, or a struct x, y (GeoArrow)."""
    if is_point(values.type):
        return degrees(pc.struct_field(values, "x")), degrees(pc.struct_field(values, "y"))
    return geometry_points(values.to_pylist())


def _unchanged_texts(values: pa.Array) -> pa.StringArray:
    """Return texts unchanged; null for blank ones and for other values."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if not is_text(values.type):
        return pa.nulls(len(values), pa.string())
    values = values.cast(pa.string())
    return pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), None, values)


def _with_name_first(address: pa.StringArray, name: pa.StringArray) -> pa.StringArray:
    """Put the name before each address text that does not contain it; an empty text becomes the name."""
    rows = list(zip(address.to_pylist(), name.to_pylist(), strict=True))
    absent = pa.array([bool(own) and not text.contains(whole or "", own) for whole, own in rows], pa.bool_())
    joined = text.join_parts(name, pa.nulls(len(name), pa.string()), address, pa.nulls(len(name), pa.string()))
    return pc.if_else(absent, joined, address)
