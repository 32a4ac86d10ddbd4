"""``m3gal pretrain``."""

from __future__ import annotations

from m3gal_cli.cli.training import command_of

command = command_of(
    "pretrain",
    "osm.yaml",
    """Pretrain on views of places: text and location aligned by momentum contrast.

    Without --config the profile is osm.yaml (the published settings). Prints the run's path on stdout.
    """,
)
