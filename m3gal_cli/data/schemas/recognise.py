"""Recognise the schema of a POI table from its columns and first rows.

The steps, in this order:

1. Check that the columns of ``--columns`` exist.
2. Find the sources of the roles. The first of these that applies gives all of them:
   a. m3gal wrote the table: the canonical columns.
   b. The columns are those of a published schema: its sources. The order is that of ``PUBLISHED``.
   c. Own table: by the names of the columns, and by values where names do not decide. Texts come first, then the
      decision whether ``address`` is the whole text or the street, then the house number, then the coordinates.
3. Replace sources by those of ``--columns``, and drop those that they exclude.
4. Check that there is a text and that there are coordinates.

Two possible readings are an error, which shows both, and the options that decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m3gal_cli.data.schemas.address_text import contains
from m3gal_cli.data.schemas.mapping import ColumnMapping
from m3gal_cli.data.schemas.names import (
    ELEMENTS,
    EXACT,
    NAMES,
    OSM_KEYS,
    PAIRS,
    PUBLISHED,
    core_of,
    key_of,
    leaves,
    name_languages,
)
from m3gal_cli.data.schemas.schema import CANONICAL, LIMIT, NO_DEGREES, POINT_ROLES, Schema, degrees, pair_values
from m3gal_cli.data.schemas.sources import (
    as_text,
    has_path,
    holds_geometries,
    is_text,
    is_whole,
    paths_of,
    texts_of,
    values_of,
)
from m3gal_cli.errors import InputError

FIRST_ROWS = 1000
WHOLE, STREET = 0.5, 0.2  # share of addresses with the name in it, from which and up to which the reading is clear
SHOWN_CHARS, SHOWN_COLUMNS = 40, 40
MAX_DIGITS = 18  # of a row number
OWN_TABLE = "own table"
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


def shown_names(columns: Sequence[str]) -> str:
    """Return names of columns for a message, not more than ``SHOWN_COLUMNS``."""
    more = len(columns) - SHOWN_COLUMNS
    return ", ".join(columns[:SHOWN_COLUMNS]) + (f" and {more:,} more" if more > 0 else "")


class UnknownSchema(InputError):
    """The table has no column for the text or for a coordinate."""


def _drop(found: Sources, *roles: str) -> None:
    for role in roles:
        found.pop(role, None)


class _Recogniser:
    def __init__(self, table: pa.Table, columns: list[str], given: ColumnMapping) -> None:
        self.table, self.columns, self.given = table, columns, given
        self.levels = leaves(table.schema)

    def schema(self) -> Schema:
        """Return the schema; the steps are those at the top of the module."""
        self._check_given()
        name, found = self._recognised()
        self._replace_by_given(found)
        if name == OWN_TABLE:
            name = self._name_of_own(found)
            if "address" in found and "address" not in self.given.sources:
                _drop(found, "other_names")  # the text does not change
        self._check_complete(found)
        return Schema(name, found, name_first=bool(self.given.sources.get("address")) and "name" in found)

    def _recognised(self) -> tuple[str, Sources]:
        """Return the name of the schema, and its sources before ``--columns`` replaces some."""
        if self._is_written():
            return OWN_TABLE, {role: (column,) for role, column in CANONICAL.items() if column in self.columns}
        for published in PUBLISHED:
            if published.fits(self.table.schema):
                known = {role: tuple(filter(self._is_source, sources)) for role, sources in published.sources.items()}
                return published.name, {role: sources for role, sources in known.items() if sources}
        return OWN_TABLE, self._own_sources()

    def _is_written(self) -> bool:
        """Return whether the table is one that m3gal wrote, which may also have all columns of its source."""
        if self.columns[:2] != ["poi_id", "address"] or not {"lng", "lat"} <= set(self.columns):
            return False
        share = self._share_inside("address", "name") if "name" in self.columns else None
        return share is None or share >= WHOLE

    def _name_of_own(self, found: Sources) -> str:
        if "geometry" in found and self._is_geojson(found["geometry"][0]):
            return "geojson"
        canonical = all(found.get(role) in (None, (column,)) for role, column in CANONICAL.items())
        complete = set(M3GAL) <= set(found)
        return "m3gal" if canonical and complete and not self.given.sources else OWN_TABLE

    # --- sources of --columns ------------------------------------------------------------------------------------

    def _is_source(self, source: str) -> bool:
        return all(has_path(self.table.schema, path) for path in paths_of(source))

    def _check_given(self) -> None:
        for role, source in self.given.sources.items():
            for path in paths_of(source) if source else []:
                if not self._is_source(path):
                    what = f"--columns: {role}={source}: the table has no column {path!r}"
                    raise InputError(what, hint=f"Its columns are: {shown_names(self.columns)}.")

    def _replace_by_given(self, found: Sources) -> None:
        """Take the given sources, and drop the recognised ones that they replace or exclude."""
        _drop(found, *self.given.sources)
        found |= {role: (source,) for role, source in self.given.sources.items() if source}
        given = {role for role, source in self.given.sources.items() if source}
        forms = ({"lng", "lat"}, *({role} for role in POINT_ROLES))  # of coordinates
        if any(form & given for form in forms):
            _drop(found, *(role for form in forms if not form & given for role in form))
        if "address" in given:
            _drop(found, *(set(PARTS) - given))
        elif "street" in given:
            _drop(found, "address")
        for role in ("name", "brand", "category"):  # a column has one of these roles at most
            used = {source for other in given & set(found) for source in found[other]}
            if role not in given and used & set(found.get(role, ())):
                del found[role]

    # --- own tables ----------------------------------------------------------------------------------------------

    def _own_sources(self) -> Sources:
        given = self.given.sources
        found: Sources = {}
        for role in ("id", "name", "category", "street", "number", "unit", "district", "city", "region", "brand"):
            if role not in given and (path := self._choose(role)):
                found[role] = (path,)
        if found.get("name") == found.get("brand"):
            _drop(found, "brand")
        has_name = "name" in found or "name" in given
        if has_name and "category" not in found and "category" not in given:
            self._add_tags(found)
        if "address" not in given:
            self._add_address(found)
        if "number" in found and "street" in found:
            self._check_number(found)
        others = [path for path, key in self.levels[0] if any(key in group for group in NAMES["other_names"])]
        others += name_languages(self.columns)
        if others and "other_names" not in given:
            found["other_names"] = tuple(dict.fromkeys(others))
        self._add_coordinates(found)
        return found

    def _add_tags(self, found: Sources) -> None:
        """Take the category from columns for keys of OpenStreetMap."""
        tags = [
            key
            for key in OSM_KEYS
            if key in self.columns
            and not pa.types.is_nested(self.table.schema.field(key).type)
            and (key,) != found.get("name")
            and self._may_be("category", key)
        ]
        if tags:
            found["category"] = tuple(tags)

    def _candidates(self, role: str) -> list[str]:
        """Return the columns of the first group of names in which some may have the role.

        Columns come before nested fields. Within a group, full names come before those without prefix and suffix.
        """
        for level in self.levels:
            for group in NAMES[role]:
                for read in (str,) if role in EXACT else (str, core_of):
                    paths = [path for path, key in level if read(key) in group and self._may_be(role, path)]
                    if paths:
                        return paths
        return []

    def _may_be(self, role: str, path: str) -> bool:
        """Return whether the values suit the role; a role without a rule needs a value."""
        values = values_of(self.table, path)
        if role in LIMIT:
            numbers = degrees(values)
            known = numbers[np.isfinite(numbers)]
            degrees_share = (np.abs(known) <= 180.0).mean() if len(known) else 1.0
            return path in M3GAL or bool(degrees_share >= 0.5)
        if role == "id":
            plain = is_text(values.type) or pa.types.is_integer(values.type) or is_whole(values)
            return plain and (key_of(path) in ("poiid", "id") or self._is_unique(values))
        if role == "geometry":
            return len(values) == values.null_count or holds_geometries(values)
        given = as_text(values)
        if role == "category":  # numbers are codes
            is_element = pc.is_in(given, pa.array(ELEMENTS))
            given = pc.if_else(pc.and_(pc.match_substring_regex(given, r"\pL"), pc.invert(is_element)), given, None)
        return len(values) == 0 or given.null_count < len(values)

    @staticmethod
    def _is_unique(values: pa.Array) -> bool:
        return values.null_count == 0 and len(pc.unique(values)) == len(values)

    def _choose(self, role: str) -> str | None:
        """Return the column of a role; None without one. Raises InputError if several columns differ."""
        paths = self._candidates(role)
        if len(paths) > 1 and role == "id":
            paths = [path for path in paths if self._is_unique(values_of(self.table, path))] or paths
        if len(paths) > 1 and role in LIMIT:
            paths = [path for path in paths if np.isfinite(degrees(values_of(self.table, path))).any()] or paths
        if len(paths) > 1 and role in DECIDED:
            first = self._compared(role, paths[0])
            if any(not first.equals(self._compared(role, path)) for path in paths[1:]):
                readings = {f"{role}={path}": self._example(path) for path in paths[:3]}
                self._raise_doubt(f"{len(paths)} columns can be the {role}", readings)
        return paths[0] if paths else None

    def _compared(self, role: str, path: str) -> pa.Array:
        values = values_of(self.table, path)
        if role in LIMIT:
            return pa.array(np.round(degrees(values), 6), from_pandas=True)
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

    def _check_number(self, found: Sources) -> None:
        """Drop a house number that the street already has, and a row number, which may be the id."""
        (number,), (street,) = found["number"], found["street"]
        is_repeated = (self._share_inside(street, number) or 0.0) >= WHOLE
        is_clear = key_of(number) in NAMES["number"][0]
        if is_clear and not is_repeated:
            return
        streets = texts_of(self.table, street).drop_null()
        with_digit = pc.sum(pc.match_substring_regex(streets, r"\d")).as_py() or 0
        if is_repeated or with_digit >= WHOLE * len(streets) or self._is_row_number(number):
            del found["number"]
            if "id" not in found and "id" not in self.given.sources and self._may_be("id", number):
                found["id"] = (number,)

    def _is_row_number(self, path: str) -> bool:
        values = as_text(values_of(self.table, path)).to_pylist()
        first = values[0] if len(values) > 2 else None
        if first is None or not first.isdecimal() or len(first) > MAX_DIGITS:
            return False
        return values == [str(int(first) + i) for i in range(len(values))]

    def _share_inside(self, address: str, part: str) -> float | None:
        """Return the share of addresses that contain another text, of the rows with both; None without such rows."""
        rows = zip(texts_of(self.table, address).to_pylist(), texts_of(self.table, part).to_pylist(), strict=True)
        inside = [contains(whole, own) for whole, own in rows if whole and own]
        return sum(inside) / len(inside) if inside else None

    def _add_coordinates(self, found: Sources) -> None:
        given = self.given.sources
        if any(given.get(role) for role in POINT_ROLES):
            return
        for role in LIMIT:
            if role not in given and (path := self._choose(role)):
                found[role] = (path,)
        if all(role in found or given.get(role) for role in LIMIT):
            return
        if point := next(self._points(), None):
            role, path = point
            _drop(found, *LIMIT)
            found[role] = (path,)

    def _points(self) -> Iterator[tuple[str, str]]:
        """Yield role and path of columns with both coordinates: those with a clear name first, by values alone last."""
        for role in POINT_ROLES:
            for path in self._candidates(role)[:1]:
                yield role, path
        for path, key in chain(*self.levels):
            if key in PAIRS and (order := self._order_of_pairs(path)):
                yield order, path
        for path, _ in self.levels[0]:
            if holds_geometries(values_of(self.table, path)):
                yield "geometry", path
            elif order := self._order_of_pairs(path, 3):
                yield order, path

    def _order_of_pairs(self, path: str, decimals: int = 0) -> str | None:
        """Return the order of the two numbers in a text; None for other texts, and numbers with fewer decimals.

        Raises InputError if both orders may be.
        """
        values = values_of(self.table, path)
        first, second = pair_values(values)
        known = np.isfinite(first)
        if not known.any():
            return None
        if decimals:
            are_pairs = is_text(values.type) and known.all()
            if not are_pairs or (np.round(first, decimals - 1) == first).all():
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
        names = shown_names(self.columns)
        missing = [] if any(role in found for role in ("address", "name", "street")) else ["name or address"]
        if not any(role in found for role in POINT_ROLES):
            missing += [role for role in ("lng", "lat") if role not in found]
        if missing:
            what = f"the POI table has no column {', '.join(missing)} (the columns are: {names})"
            roles = ", ".join(f"{role}=COLUMN" for role in missing).replace("name or address=", "name=COLUMN, street=")
            hint = f"Rename or add it, or name it: --columns '{roles}'"
            if example := self._too_large():
                what, hint = f"{what}; {example}", NO_DEGREES
            raise UnknownSchema(what, hint=hint)

    def _too_large(self) -> str:
        """Return which column has numbers that are no degrees, with an example; "" without one."""
        for role, limit in LIMIT.items():
            known = [key for group in NAMES[role] for key in group]
            for path, key in self.levels[0]:
                numbers = degrees(values_of(self.table, path))
                if core_of(key) in known and (np.abs(numbers) > limit).any():
                    return f"{path} has no degrees: {self._example(path)}"
        return ""

    def _example(self, path: str) -> str:
        value = next(filter(None, as_text(values_of(self.table, path)).to_pylist()), None)
        return "no value" if value is None else repr(value[:SHOWN_CHARS])

    def _raise_doubt(self, what: str, readings: dict[str, str]) -> NoReturn:
        """Raise InputError with the option of each reading and an example."""
        shown = ", or ".join(f"{source} ({example})" for source, example in readings.items())
        options = " or ".join(self.given.option(**dict([source.split("=", 1)])) for source in readings)
        raise InputError(f"{what}: {shown}", hint=f"Decide: {options}")
