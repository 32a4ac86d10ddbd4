"""Recognise the schema of a POI table from its columns and first rows. Two possible readings are an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m3gal_cli.data.schemas.address_text import contains
from m3gal_cli.data.schemas.mapping import ColumnMapping
from m3gal_cli.data.schemas.names import NAMES, OSM_KEYS, PAIRS, PUBLISHED, key_of, leaves, name_languages
from m3gal_cli.data.schemas.schema import POINT_ROLES, Schema, degrees, pair_values
from m3gal_cli.data.schemas.sources import as_text, has_path, is_text, paths_of, texts_of, values_of
from m3gal_cli.errors import InputError

FIRST_ROWS = 1000
WHOLE, STREET = 0.5, 0.2  # share of addresses with the name in it, from which and up to which the reading is clear
LIMIT = {"lng": 180.0, "lat": 90.0}
SHOWN_CHARS = 40
M3GAL = ("address", "lng", "lat")
DECIDED = ("id", "name", "address", "street", "lng", "lat")  # roles for which two different columns are an error
PARTS = ("street", "number", "unit", "district", "city", "region", "category", "brand")
Sources = dict[str, tuple[str, ...]]


def recognise(columns: Sequence[str], first_batch: pa.Table, given: ColumnMapping | None = None) -> Schema:
    """Return the schema of a POI table.

    Args:
        columns: The columns of the table.
        first_batch: Its first rows, which decide where names of columns do not.
        given: The sources that the user gives; they replace those that are recognised.

    Raises:
        InputError: Two readings are possible, a given column does not exist, or there is no text or coordinate.
    """
    return _Recogniser(first_batch.slice(0, FIRST_ROWS), list(columns), given or ColumnMapping()).schema()


class UnknownSchema(InputError):
    """The table has no column for the text or for a coordinate."""


class _Recogniser:
    def __init__(self, table: pa.Table, columns: list[str], given: ColumnMapping) -> None:
        self.table, self.columns, self.given = table, columns, given
        self.levels = leaves(table.schema)

    def schema(self) -> Schema:
        given = self.given.sources
        self._check_given()
        published = next((p for p in PUBLISHED if p.fits(self.table.schema)), None)
        name = "own table"
        found: Sources = {}
        if published is not None:
            name = published.name
            for role, sources in published.sources.items():
                if known := tuple(filter(self._is_source, sources)):
                    found[role] = known
        else:
            found = self._own_roles()
        for role, source in given.items():
            found.pop(role, None)
            if source:
                found[role] = (source,)
        self._drop_replaced(found)
        if "address" in found and published is None and "address" not in given:
            found.pop("other_names", None)  # the text does not change
        if published is None and found.get("geometry") and self._is_geojson(found["geometry"][0]):
            name = "geojson"
        self._check_complete(found)
        if (
            name == "own table"
            and not given
            and all(found.get(role) == (role,) for role in M3GAL)
            and found.get("id", ("poi_id",)) == ("poi_id",)
            and found.get("name", ("name",)) == ("name",)
        ):
            name = "m3gal"
        return Schema(name, found, name_first=bool(given.get("address")) and "name" in found)

    # --- published schemas and given sources ---------------------------------------------------------------------

    def _is_source(self, source: str) -> bool:
        return all(has_path(self.table.schema, path) for path in paths_of(source))

    def _check_given(self) -> None:
        for role, source in self.given.sources.items():
            for path in paths_of(source) if source else []:
                if not self._is_source(path):
                    known = ", ".join(self.columns)
                    what = f"--columns: {role}={source}: the table has no column {path!r}"
                    raise InputError(what, hint=f"Its columns are: {known}.")

    def _drop_replaced(self, found: Sources) -> None:
        """Drop the recognised sources that a given source replaces."""
        given = {role for role, source in self.given.sources.items() if source}
        points = ({"lng", "lat"}, *({role} for role in POINT_ROLES))
        if any(group & given for group in points):
            for group in points:
                if not group & given:
                    for role in group:
                        found.pop(role, None)
        if "address" in given:
            for role in PARTS:
                if role not in given:
                    found.pop(role, None)
        elif "street" in given:
            found.pop("address", None)
        for role in ("name", "brand", "category"):  # a column that another role uses is not the name, too
            used = {s for other, sources in found.items() if other in given for s in sources}
            if role not in given and role in found and set(found[role]) & used:
                del found[role]

    # --- own tables ----------------------------------------------------------------------------------------------

    def _own_roles(self) -> Sources:
        given, found = self.given.sources, dict[str, tuple[str, ...]]()
        for role in ("id", "name", "category", "street", "number", "unit", "district", "city", "region", "brand"):
            if role not in given and (source := self._choose(role)):
                found[role] = (source,)
        if found.get("name") == found.get("brand"):
            found.pop("brand", None)
        if "category" not in found and "category" not in given:
            tags = [key for key in OSM_KEYS if key in self.columns and not self._is_nested(key)]
            tags = [key for key in tags if (key,) != found.get("name")]
            if tags and (found.get("name") or "name" in given):
                found["category"] = tuple(tags)
        if "address" not in given:
            self._add_address(found)
        others = [path for path, key in self.levels[0] if any(key in group for group in NAMES["other_names"])]
        others += name_languages(self.columns)
        if others and "other_names" not in given:
            found["other_names"] = tuple(dict.fromkeys(others))
        self._add_coordinates(found)
        return found

    def _candidates(self, role: str) -> list[str]:
        """Return the columns of the first group of names that has one with a value, and so nested fields."""
        for level in self.levels:
            for group in NAMES[role]:
                paths = [path for path, key in level if key in group and self._may_be(role, path)]
                if paths:
                    return paths
        return []

    def _may_be(self, role: str, path: str) -> bool:
        values = values_of(self.table, path)
        if role in LIMIT:
            numbers = degrees(values, ",")
            known = numbers[np.isfinite(numbers)]
            return path in M3GAL or not len(known) or float((np.abs(known) <= 180.0).mean()) >= 0.5
        if role == "id":
            plain = is_text(values.type) or pa.types.is_integer(values.type)
            return plain and (key_of(path) in ("poiid", "id") or self._is_unique(values))
        given = values if role == "geometry" else as_text(values)
        return len(values) == 0 or given.null_count < len(values)

    def _is_nested(self, column: str) -> bool:
        return bool(pa.types.is_nested(self.table.schema.field(column).type))

    @staticmethod
    def _is_unique(values: pa.Array) -> bool:
        return values.null_count == 0 and len(pc.unique(values)) == len(values)

    def _choose(self, role: str) -> str | None:
        """Return the column of a role; None without one. Raises InputError if several columns differ."""
        paths = self._candidates(role)
        if len(paths) > 1 and role == "id":
            paths = [path for path in paths if self._is_unique(values_of(self.table, path))] or paths
        if len(paths) > 1 and role in LIMIT:
            paths = [path for path in paths if np.isfinite(degrees(values_of(self.table, path), ",")).any()] or paths
        if len(paths) > 1 and role in DECIDED:
            first = self._compared(role, paths[0])
            if any(not first.equals(self._compared(role, path)) for path in paths[1:]):
                readings = {f"{role}={path}": self._example(path) for path in paths[:3]}
                self._raise_doubt(f"{len(paths)} columns can be the {role}", readings)
        return paths[0] if paths else None

    def _compared(self, role: str, path: str) -> pa.Array:
        values = values_of(self.table, path)
        if role in LIMIT:
            return pa.array(np.round(degrees(values, ","), 6), from_pandas=True)
        return as_text(values)

    def _add_address(self, found: Sources) -> None:
        """Decide whether a column ``address`` is the whole address text or the street alone."""
        address = self._choose("address")
        if address is None or self.given.sources.get("street"):
            return
        source = self.given.sources.get("name") or next(iter(found.get("name", ())), None)
        share = None if source is None else self._share_inside(address, source)
        if share is None or share >= WHOLE:  # without names it is the only text
            for role in PARTS:
                found.pop(role, None)
            found["address"] = (address,)
        elif share > STREET:
            example = self._example(address)
            self._raise_doubt(
                f"{share:.0%} of the first addresses contain the name: the column can be two things",
                {f"address={address}": f"the whole text, such as {example}", f"street={address}": "the street alone"},
            )
        elif "street" not in found:
            found["street"] = (address,)
            if "number" in found and (self._share_inside(address, found["number"][0]) or 0.0) >= WHOLE:
                del found["number"]  # the street already has it

    def _share_inside(self, address: str, part: str) -> float | None:
        """Return the share of addresses that contain another text, of the rows with both; None without such rows."""
        rows = zip(texts_of(self.table, address).to_pylist(), texts_of(self.table, part).to_pylist(), strict=True)
        inside = [contains(whole, own) for whole, own in rows if whole and own]
        return sum(inside) / len(inside) if inside else None

    def _add_coordinates(self, found: Sources) -> None:
        given = self.given.sources
        if any(given.get(role) for role in POINT_ROLES):
            return
        for role in ("lng", "lat"):
            if role not in given and (path := self._choose(role)):
                found[role] = (path,)
        if all(role in found or given.get(role) for role in LIMIT):
            return
        for role in POINT_ROLES:
            if path := next(iter(self._candidates(role)), None):
                found[role] = (path,)
                found.pop("lng", None)
                found.pop("lat", None)
                return
        for level in self.levels:
            for path, key in level:
                if key in PAIRS and (order := self._order_of_pairs(path)):
                    found[order] = (path,)
                    found.pop("lng", None)
                    found.pop("lat", None)
                    return

    def _order_of_pairs(self, path: str) -> str | None:
        """Return the order of the two numbers in a text; None for other texts. Raises InputError if both may be."""
        first, second = pair_values(values_of(self.table, path))
        known = np.isfinite(first)
        if not known.any():
            return None
        if (np.abs(first[known]) > LIMIT["lat"]).any():
            return "lng_lat"
        if (np.abs(second[known]) > LIMIT["lat"]).any():
            return "lat_lng"
        example = self._example(path)
        self._raise_doubt(
            f"the order of the numbers in {path} is not clear",
            {f"lat_lng={path}": f"latitude first: {example}", f"lng_lat={path}": f"longitude first: {example}"},
        )

    def _is_geojson(self, path: str) -> bool:
        values = values_of(self.table, path)
        if pa.types.is_struct(values.type):
            return values.type.get_field_index("coordinates") >= 0
        return (next(filter(None, as_text(values).to_pylist()), "") or "").startswith("{")

    # --- errors --------------------------------------------------------------------------------------------------

    def _check_complete(self, found: Sources) -> None:
        names = ", ".join(self.columns)
        missing = [] if any(role in found for role in ("address", "name", "street")) else ["address"]
        if not any(role in found for role in POINT_ROLES):
            missing += [role for role in ("lng", "lat") if role not in found]
        if missing:
            what = f"the POI table has no column {', '.join(missing)} (the columns are: {names})"
            roles = ", ".join(f"{role}=COLUMN" for role in missing)
            raise UnknownSchema(what, hint=f"Rename or add it, or name it: --columns '{roles}'")

    def _example(self, path: str) -> str:
        value = next(filter(None, as_text(values_of(self.table, path)).to_pylist()), None)
        return "no value" if value is None else repr(value[:SHOWN_CHARS])

    def _raise_doubt(self, what: str, readings: dict[str, str]) -> NoReturn:
        """Raise InputError with the option of each reading and an example."""
        shown = ", or ".join(f"{source} ({example})" for source, example in readings.items())
        options = " or ".join(self.given.option(**dict([source.split("=", 1)])) for source in readings)
        raise InputError(f"{what}: {shown}", hint=f"Decide: {options}")
