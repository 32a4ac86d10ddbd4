"""Queries of every style, made from a POI table: names, addresses, typing errors, other languages, references.

A query that several POIs fit equally has all of them as gold.
"""

from m3gal_cli.data.query_styles.make import MAX_GOLD, StyledQuery, styled_queries
from m3gal_cli.data.query_styles.styles import STYLES
from m3gal_cli.data.query_styles.words import NO_PLACE

__all__ = ["MAX_GOLD", "NO_PLACE", "STYLES", "StyledQuery", "styled_queries"]
