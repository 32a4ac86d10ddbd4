"""``m3gal finetune``."""

from __future__ import annotations

from m3gal_cli.cli.training import command_of

command = command_of(
    "finetune",
    "geotes.yaml",
    """Finetune on queries with candidates: query, key and location encoders learn the order.

    Without --config the profile is geotes.yaml (the published settings). Prints the run's path on stdout.
    """,
)
