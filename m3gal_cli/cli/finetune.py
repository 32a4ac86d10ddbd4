"""``m3gal finetune``."""

from __future__ import annotations

from typing import Any

from m3gal_cli.cli import options as o
from m3gal_cli.cli.options import option, with_options
from m3gal_cli.cli.training import TRAINING, TRAINING_OPTIONS, train

SOUP_SIZE = option(
    "--soup-size", int, "Number of trainings in the model soup; the result is the mean of their weights.", TRAINING
)


@with_options(o.LABELS, o.POIS, o.COLUMNS, o.SKIP_BAD, SOUP_SIZE, *TRAINING_OPTIONS, other_names=True)
def command(values: dict[str, Any]) -> None:
    """Finetune on queries with candidates, or on labels (--labels, --pois).

    Starts from the packaged model, or from --text-encoder or --init. Without --config, the profile is geotes.yaml for
    the packaged model, else paper-finetune.yaml (the published settings). Prints the path of the run on stdout.
    """
    train("finetune", values)
