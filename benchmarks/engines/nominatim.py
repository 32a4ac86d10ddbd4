"""Nominatim: a geocoder that imports OpenStreetMap extracts, so it is measured on the sample city only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from engines.engine import (
    LOOPBACK,
    Answers,
    Engine,
    Http,
    OpenEngine,
    command,
    free_port,
    installed_version,
    memory_mb,
    program,
    server,
)
from engines.postgres import postgres
from m3gal_cli.data.queries import Query
from m3gal_cli.data.sample import copy_sample

JSON = {"format": "json"}
MAX_ANSWERS = 40  # the server gives no more


@contextmanager
def open_nominatim(pois: pd.DataFrame, folder: Path) -> Iterator[OpenEngine]:
    """Import the sample city with Nominatim's own rules; an answer is right if it has the OSM id of the gold."""
    nominatim, project, port = program("nominatim"), folder / "project", free_port()
    project.mkdir()
    rows = {poi_id: row for row, poi_id in enumerate(pois["poi_id"])}
    with postgres(folder) as database:
        dsn = f"pgsql:host={LOOPBACK};port={database.port};user={database.user};dbname=nominatim"
        settings = {"NOMINATIM_DATABASE_DSN": dsn, "NOMINATIM_DATABASE_WEBUSER": database.user}
        words = [nominatim, "import", "--osm-file", copy_sample(folder), "--project-dir", project, "-j", 1]
        command([*words, "--no-updates", "--offline"], folder / "import.txt", env=os.environ | settings)
        http = Http(port)
        words = [nominatim, "serve", "--server", f"{LOOPBACK}:{port}", "--project-dir", project]
        with server(words, lambda: bool(http.get("/status", JSON)), folder / "serve.txt", settings) as process:

            def search(query: Query) -> Answers:
                found = http.get("/search", JSON | {"q": query.text, "limit": MAX_ANSWERS})
                ids = [f"{place['osm_type'][0]}{place['osm_id']}" for place in found if "osm_type" in place]
                return [(rows.get(own, -1), float(-number)) for number, own in enumerate(ids)]

            version = installed_version("nominatim-db")
            yield OpenEngine(version, search, lambda: memory_mb(process, database.process))


ENGINES = [
    Engine(
        "Nominatim",
        "import of the extract with the style full",
        open_nominatim,
        lambda name: name.startswith("helsinki"),
    )
]
