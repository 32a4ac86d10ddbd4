"""Records of a finetuning that are made from labels. They are kept in the folder ``labels`` of the run.

The settings of the run name this folder as the data folder: a resumed training reads the same records again, and later
evaluations find the test records.
"""

from __future__ import annotations

import os
from pathlib import Path

from m3gal_cli.config.paths import find_pois, find_records
from m3gal_cli.config.schema import Config, DataConfig
from m3gal_cli.data.label_records import LabelOptions, LabelRecords, record_file, write_data
from m3gal_cli.data.label_splits import SPLITS
from m3gal_cli.data.records import Record, read_records
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_folder, remove_folder
from m3gal_cli.label_source import labelled_records
from m3gal_cli.training.listener import Listener
from m3gal_cli.training.run_directory import RunDirectory
from m3gal_cli.training.stage import StartOptions

FOLDER = "labels"
POIS_FILE = "poi_database.csv"


def records_of_labels(
    config: Config, options: StartOptions, listener: Listener
) -> tuple[Config, dict[str, list[Record]]]:
    """Return the settings with the records of the run as data files, and the records of each split.

    A new run makes the records from ``data.labels`` and writes them; a resumed run reads those that it has.

    Raises:
        InputError: Bad labels or POI table, or the run exists already.
    """
    if config.run.name is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--labels with several processes needs --run-name", hint="Add --run-name NAME.")
    main = os.environ.get("RANK", "0") == "0"
    run = RunDirectory.named(config.run.dir, config.run.name, "finetune", main)
    folder = run.path / FOLDER
    if options.resume is not None and (folder / record_file("train")).is_file():
        config = _with_folder(config, run, (folder / POIS_FILE).is_file())
        return config, {split: read_records(path) for split in SPLITS if (path := find_records(config.data, split))}
    if options.resume != "auto" or not run.last.exists():
        run.check(resuming=False)
    log = listener.message if main else lambda _: None
    made = labelled_records(config.data, LabelOptions(), config.data.poi is not None, log)
    # Records are in WGS-84; the table of the run must be, too, because one datum applies to all data of a run.
    own_pois = made.labels.pois is not None or config.data.datum != "wgs84"
    if main and options.dry_run is None:
        _write(made, folder, own_pois)
    log(_summary(made))
    return _with_folder(config, run, own_pois), made.records


def _with_folder(config: Config, run: RunDirectory, own_pois: bool) -> Config:
    """Return the settings with the labels of the run as data folder, and the run under its name."""
    poi = find_pois(config.data)
    data = DataConfig(
        dir=str(run.path / FOLDER),
        views=config.data.views,
        poi=None if own_pois or poi is None else str(poi),
        columns=None if own_pois else config.data.columns,
        skip_bad=config.data.skip_bad,
        shuffle=config.data.shuffle,
        max_chars=config.data.max_chars,
    )
    own_run = config.run.model_copy(update={"name": config.run.name or run.path.name})
    return config.model_copy(update={"data": data, "run": own_run})


def _write(made: LabelRecords, folder: Path, with_pois: bool) -> None:
    """Write the records, and the POI table if the run needs its own, as one folder, atomically."""
    with atomic_folder(folder) as temporary:
        write_data(made, temporary, None, with_pois=with_pois)
        if folder.exists():  # of an attempt that saved no checkpoint
            remove_folder(folder)


def _summary(made: LabelRecords) -> str:
    summary = made.summary
    splits = ", ".join(f"{count:,} {split}" for split, count in summary.splits.items())
    return f"{made.labels.source.name}: {summary.labels:,} labels, {summary.queries:,} queries: {splits}"
