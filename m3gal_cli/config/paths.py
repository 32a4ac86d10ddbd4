"""Which files the data section means: given paths, or the published names in ``data.dir``."""

from __future__ import annotations

from pathlib import Path

from m3gal_cli.config.schema import Config, DataConfig
from m3gal_cli.errors import InputError

VIEWS = "same_poi_views_"
SUFFIXES = (".jsonl", ".jsonl.gz", ".pth")


def find_views(data: DataConfig) -> Path:
    """The view table. Raises InputError where none, or more than one, is in the folder."""
    if data.views is not None:
        return Path(data.views)
    folder = Path(data.dir)
    if data.suffix is not None:
        return folder / f"{VIEWS}{data.suffix}.csv"
    found = sorted(p for p in folder.glob(f"{VIEWS}*.csv"))
    found = [p for p in found if p.stem != f"{VIEWS}mgeo"] or found
    hint = (
        "Make one with: m3gal data osm EXTRACT (or m3gal data sample). Or give --data-suffix or --set data.views=FILE."
    )
    if not found:
        raise InputError(f"no view table ({VIEWS}*.csv)", where=folder, hint=hint)
    if len(found) > 1:
        names = ", ".join(p.stem.removeprefix(VIEWS) for p in found)
        raise InputError(f"more than one view table: {names}", where=folder, hint="Choose with --data-suffix NAME.")
    return found[0]


def find_records(data: DataConfig, split: str) -> Path | None:
    """Candidate records of train, val or test: the given path, else the first published name that exists, else None."""
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
    """The POI table: the given path, else the first published name that exists, else None."""
    if data.poi is not None:
        return Path(data.poi)
    suffix = _suffix(data)
    stems = [f"poi_database_{suffix}"] if suffix is not None else []
    stems += ["poi_database", "mgeo_poi_database_use_negative"]
    return _first(Path(data.dir), [s + end for s in stems for end in (".parquet", ".csv")])  # the twin knows the ids


def resolve_data(config: Config) -> Config:
    """The configuration with every file that its data section means written out as an absolute path (None: none)."""
    data = config.data
    try:
        views: Path | None = find_views(data)
    except InputError:
        views = None
    found = {name: find_records(data, name) for name in ("train", "val", "test")}
    paths = {"views": views, **found, "poi": find_pois(data)}
    update = {name: None if path is None else str(path.resolve()) for name, path in paths.items()}
    return config.model_copy(update={"data": data.model_copy(update=update)})


def _suffix(data: DataConfig) -> str | None:
    if data.suffix is not None:
        return data.suffix
    try:
        name = find_views(data).stem
    except InputError:
        return None
    return name.removeprefix(VIEWS) if name.startswith(VIEWS) else None


def _first(folder: Path, names: list[str]) -> Path | None:
    return next((folder / n for n in names if (folder / n).is_file()), None)
