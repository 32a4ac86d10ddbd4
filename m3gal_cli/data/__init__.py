"""Extracts and GeoTES in, validated tables out."""
