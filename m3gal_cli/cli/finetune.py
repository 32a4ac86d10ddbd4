"""``m3gal finetune``."""

from __future__ import annotations

from m3gal_cli.cli.training import command_of

command = command_of(
    "finetune",
    "paper-finetune.yaml",
    """Finetune on queries with candidates: query, key and location encoders learn the order.

    Without --config the profile is paper-finetune.yaml (the published settings); geotes.yaml does better. Prints the
    run's path on stdout.
    """,
)
