"""``m3gal finetune``."""

from __future__ import annotations

from inspect import Parameter
from pathlib import Path
from typing import Annotated

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.training import command_of

Reranker = Annotated[
    bool,
    typer.Option(
        "--reranker",
        help="Train a cross-encoder instead, which orders the best candidates of the others once more.",
        rich_help_panel=o.TRAINING,
    ),
]
Mine = Annotated[
    Path | None,
    typer.Option(
        help="With --reranker: run of a bi-encoder; what it takes for the place is a negative too.",
        rich_help_panel=o.DATA,
    ),
]
Members = Annotated[
    int | None,
    typer.Option(help="Train so many times; the model has the mean of their weights.", rich_help_panel=o.TRAINING),
]

command = command_of(
    "finetune",
    "paper-finetune.yaml",
    """Finetune on queries with candidates: query, key and location encoders learn the order.

    Without --config the profile is paper-finetune.yaml (the published settings), with --reranker reranker.yaml;
    geotes.yaml does better than the first. Prints the run's path on stdout.
    """,
    (
        Parameter("reranker_wanted", Parameter.KEYWORD_ONLY, default=False, annotation=Reranker),
        Parameter("mine", Parameter.KEYWORD_ONLY, default=None, annotation=Mine),
        Parameter("members", Parameter.KEYWORD_ONLY, default=None, annotation=Members),
    ),
)
