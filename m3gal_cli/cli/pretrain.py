"""``m3gal pretrain``."""

from __future__ import annotations

from typing import Any

from m3gal_cli.cli.options import with_options
from m3gal_cli.cli.training import TRAINING_OPTIONS, train


@with_options(*TRAINING_OPTIONS, other_names=True)
def command(values: dict[str, Any]) -> None:
    """Pretrain on views of places: align text and location by momentum contrast.

    Starts from the packaged model, or from --text-encoder or --init. Without --config, the profile is views.yaml for
    the packaged model, else osm.yaml (the published settings). Prints the path of the run on stdout.
    """
    train("pretrain", values)
