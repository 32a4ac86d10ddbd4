"""From OpenStreetMap extracts and POI tables to views, POI table, facts and candidate records (see ``build_city``)."""

from m3gal_cli.osm.build import OsmOptions, OsmSummary, build_city

__all__ = ["OsmOptions", "OsmSummary", "build_city"]
