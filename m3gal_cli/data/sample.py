"""The bundled sample city: central Helsinki, © OpenStreetMap contributors, ODbL 1.0 (see ``sample/ATTRIBUTION.md``)."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from m3gal_cli.files import atomic_path, make_folder

SAMPLE_NAME = "helsinki.osm.pbf"
ATTRIBUTION_NAME = "ATTRIBUTION.md"
QUERIES_NAME = "queries.jsonl"


def copy_sample(out: Path) -> Path:
    """Copy the extract, its attribution and some queries to a folder; return the extract's path. Raises InputError."""
    make_folder(out)
    source = resources.files("m3gal_cli.data").joinpath("sample")
    for name in (ATTRIBUTION_NAME, QUERIES_NAME, SAMPLE_NAME):
        with atomic_path(out / name) as temporary:
            temporary.write_bytes(source.joinpath(name).read_bytes())
    return out / SAMPLE_NAME
