"""Records from the labels of the settings: finetuning and the evaluations read labels here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from m3gal_cli.config.paths import find_pois
from m3gal_cli.config.schema import DataConfig
from m3gal_cli.data.label_records import LabelOptions, LabelRecords, contains_pois, make_records, write_bad

if TYPE_CHECKING:
    import pandas as pd

Log = Callable[[str], None]


def labelled_records(data: DataConfig, options: LabelOptions, table_given: bool, log: Log) -> LabelRecords:
    """Make the records of ``data.labels`` with the POI table of the settings.

    The splits do not depend on the seed of a training, so that all trainings and evaluations hold out the same queries.

    Args:
        data: The settings.
        options: Options of the records; ``data.skip_bad`` is added.
        table_given: Whether the user named the POI table. If not, a source with its own POIs needs no table.
        log: Called with messages for the user.

    Raises:
        InputError: See ``make_records``.
    """
    source = Path(str(data.labels))
    pois = None if contains_pois(source) and not table_given else find_pois(data)
    options = replace(options, skip_bad=data.skip_bad)
    made = make_records(source, pois, lambda path: read_pois_of(data, path, log), options)
    write_bad(made, Path())
    for text in made.summary.notes:
        log(text)
    return made


def read_pois_of(data: DataConfig, path: Path, log: Log, folder: Path = Path()) -> pd.DataFrame:
    """Read a POI table with the datum and the columns of the settings.

    With ``data.skip_bad``, invalid rows are left out and listed in a file in ``folder``. Raises InputError.
    """
    from m3gal_cli.poi_source import poi_options, read_pois

    return read_pois(path, poi_options(data, path, folder), log)
