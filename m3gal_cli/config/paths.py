"""Paths of the data files: given ones, or files with the published names in ``data.dir``."""

from __future__ import annotations

import os
from pathlib import Path

from m3gal_cli.config.schema import Config, DataConfig
from m3gal_cli.errors import InputError

VIEWS = "same_poi_views_"
RUN_FOLDER = "${run}"  # in config.yaml of a run: the folder of this file
SUFFIXES = (".jsonl", ".jsonl.gz", ".pth")


def find_views(data: DataConfig) -> Path:
    """Return the view table. Raises InputError if the folder has none, or more than one."""
    if data.views is not None:
        return Path(data.views)
    folder = Path(data.dir)
    if data.suffix is not None:
        return folder / f"{VIEWS}{data.suffix}.csv"
    tables = sorted(folder.glob(f"{VIEWS}*.csv"))
    tables = [p for p in tables if p.stem != f"{VIEWS}mgeo"] or tables  # a city takes precedence over GeoTES
    if not tables:
        hint = "Make one with m3gal data osm EXTRACT, or give --data-dir, --data-suffix or --set data.views=FILE."
        raise InputError(f"no view table ({VIEWS}*.csv)", where=folder, hint=hint)
    if len(tables) > 1:
        names = ", ".join(p.stem.removeprefix(VIEWS) for p in tables)
        raise InputError(f"more than one view table: {names}", where=folder, hint="Choose with --data-suffix NAME.")
    return tables[0]


def find_records(data: DataConfig, split: str) -> Path | None:
    """Return the candidate records of a split (train, val or test).

    That is the given path, else the first file with a published name in ``data.dir``, else None.
    """
    given = {"train": data.train, "val": data.val, "test": data.test}[split]
    if given is not None:
        return Path(given)
    suffix = _suffix(data)
    stem = f"{split}_dataset_use_gis"
    stems = [f"{stem}_{data.test_suffix}"] if data.test_suffix is not None and split != "train" else []
    stems += [f"{stem}_{suffix}"] if suffix is not None else []
    stems += [stem, f"{split}_dataset"]
    if data.test_suffix is None:
        stems += [f"{stem}_20000", f"{stem}_1000"]
    return _first(Path(data.dir), [s + end for s in stems for end in SUFFIXES])


def find_pois(data: DataConfig) -> Path | None:
    """Return the POI table: the given path, else the first file with a published name in ``data.dir``, else None."""
    if data.poi is not None:
        return Path(data.poi)
    suffix = _suffix(data)
    stems = [f"poi_database_{suffix}"] if suffix is not None else []
    stems += ["poi_database", "mgeo_poi_database_use_negative"]
    return _first(Path(data.dir), [s + end for s in stems for end in (".parquet", ".csv")])  # .parquet has the ids


def resolve_data(config: Config, run: Path) -> Config:
    """Return the settings with the path of every data file, as the ``config.yaml`` of a run stores them.

    A file inside the project folder (the working directory, or the folder that contains the runs folder) becomes
    relative to the run: ``${run}/../../data/views.csv``. A moved project folder then still works. Other files become
    absolute paths; files that do not exist become None.
    """
    data = config.data
    try:
        views: Path | None = find_views(data)
    except InputError:
        views = None
    records = {name: find_records(data, name) for name in ("train", "val", "test")}
    paths = {"dir": Path(data.dir), "views": views, **records, "poi": find_pois(data)}
    update = {name: None if path is None else run_path(path, run) for name, path in paths.items()}
    return config.model_copy(update={"data": data.model_copy(update=update)})


def run_path(path: Path, run: Path) -> str:
    """Return ``${run}/`` and the path relative to the run, if both are in one project; else the absolute path."""
    path, run = path.resolve(), run.resolve()
    for project in (run.parent.parent, Path.cwd()):
        if project != Path(project.anchor) and path.is_relative_to(project) and run.is_relative_to(project):
            return f"{RUN_FOLDER}/{os.path.relpath(path, run)}"
    return str(path)


def expand_run_path(path: str, run: Path) -> str:
    """Return the path that ``run_path`` wrote; a path without ``${run}`` is returned unchanged."""
    if not path.startswith(f"{RUN_FOLDER}/"):
        return path
    return os.path.normpath(run / path.removeprefix(f"{RUN_FOLDER}/"))


def _suffix(data: DataConfig) -> str | None:
    """Return the suffix of the data files: the given one, else that of the only view table."""
    if data.suffix is not None:
        return data.suffix
    try:
        name = find_views(data).stem
    except InputError:
        return None
    return name.removeprefix(VIEWS) if name.startswith(VIEWS) else None


def _first(folder: Path, names: list[str]) -> Path | None:
    return next((folder / n for n in names if (folder / n).is_file()), None)
