"""OpenStreetMap extracts in; view pairs, a POI table and candidate records out (see ``build.build_city``)."""

from m3gal_cli.osm.build import OsmOptions, OsmSummary, build_city

__all__ = ["OsmOptions", "OsmSummary", "build_city"]
