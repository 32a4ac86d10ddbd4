"""``m3gal pretrain``."""

from __future__ import annotations

from typing import Any

from m3gal_cli.cli.options import with_options
from m3gal_cli.cli.training import TRAINING_OPTIONS, train


@with_options(*TRAINING_OPTIONS, other_names=True)
def command(values: dict[str, Any]) -> None:
    """Pretrain on views of places: align text and location by momentum contrast.

    Without --config, the profile is osm.yaml (the published settings). Prints the path of the run on stdout.
    """
    train("pretrain", "osm.yaml", values)
