"""The column mapping that a user gives: ``--columns "name=title, address={street} {no}, {city}, lat=y, lng=x"``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from m3gal_cli.errors import InputError

# Roles in the order of messages. lat_lng and lng_lat: both coordinates in one text, such as "60.17, 24.94".
ROLES = (
    *("id", "name", "other_names", "address", "category", "street", "number", "unit", "district", "city", "region"),
    *("brand", "lng", "lat", "lat_lng", "lng_lat", "geometry", "closed"),
)
_NEXT_ROLE = re.compile(r",\s*(?=\w+\s*=)")
_FORM = "Write --columns 'role=column, …'; a value is a column or a template such as {street} {no}."


@dataclass(frozen=True)
class ColumnMapping:
    """The source of each given role: a column, a path (names.primary) or a template; "" for a role without source."""

    sources: Mapping[str, str] = field(default_factory=dict)

    def option(self, **more: str) -> str:
        """Return the option ``--columns`` with these sources and ``more``, as the user writes it."""
        return "--columns '" + ", ".join(f"{k}={v}" for k, v in (dict(self.sources) | more).items()) + "'"


def parse_columns(text: str) -> ColumnMapping:
    """Parse the value of ``--columns``. Templates may hold commas: the next role begins at a comma before ``role=``.

    Raises:
        InputError: A part is no ``role=source``, a role is unknown or given twice, or roles exclude each other.
    """
    sources: dict[str, str] = {}
    for part in _NEXT_ROLE.split(text.strip().strip(",")):
        role, equals, source = (piece.strip() for piece in part.partition("="))
        if not equals or not role:
            raise InputError(f"--columns: {part.strip()!r} is not role=column", hint=_FORM)
        if role not in ROLES:
            raise InputError(f"--columns: unknown role {role!r}", hint=f"Roles: {', '.join(ROLES)}.")
        if role in sources:
            raise InputError(f"--columns: the role {role} is given twice", hint=_FORM)
        if source.count("{") != source.count("}"):
            raise InputError(f"--columns: a brace of {source!r} is not closed", hint=_FORM)
        sources[role] = source
    if sources.get("address") and (sources.get("street") or sources.get("number")):
        hint = "address is the whole text. Put the street into it: address={street} {number}, {city}"
        raise InputError("--columns: address excludes street and number", hint=hint)
    return ColumnMapping(sources)
