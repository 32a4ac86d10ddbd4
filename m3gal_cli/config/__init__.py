"""Typed settings: schema, profiles, environment, --set; every error at once."""
