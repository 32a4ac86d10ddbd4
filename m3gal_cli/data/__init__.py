"""Input and output data: records, POI tables, query streams, GeoTES, hard negatives."""
