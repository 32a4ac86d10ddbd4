"""``m3gal finetune``."""

from __future__ import annotations

from inspect import Parameter
from typing import Annotated

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.training import command_of

Members = Annotated[
    int | None,
    typer.Option(help="Train so many times; the model has the mean of their weights.", rich_help_panel=o.TRAINING),
]

command = command_of(
    "finetune",
    "paper-finetune.yaml",
    """Finetune on queries with candidates: query, key and location encoders learn the order.

    Without --config the profile is paper-finetune.yaml (the published settings);
    geotes.yaml does better. Prints the run's path on stdout.
    """,
    (Parameter("members", Parameter.KEYWORD_ONLY, default=None, annotation=Members),),
)
