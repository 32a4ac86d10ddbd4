"""Schemas of POI tables: which columns give id, name, address and coordinates, and the address text made of them."""

from __future__ import annotations

from m3gal_cli.data.schemas.mapping import ColumnMapping, parse_columns
from m3gal_cli.data.schemas.recognise import UnknownSchema, recognise
from m3gal_cli.data.schemas.schema import PoiColumns, Schema

__all__ = ["ColumnMapping", "PoiColumns", "Schema", "UnknownSchema", "parse_columns", "recognise"]
