"""Coordinates, datums, distances, projections and geographic filters."""
