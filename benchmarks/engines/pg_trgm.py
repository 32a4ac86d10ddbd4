"""PostgreSQL with the extension pg_trgm: trigram similarity through a GiST index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pandas as pd

from engines.engine import DEPTH, Answers, Engine, OpenEngine, memory_mb
from engines.postgres import connect, postgres
from m3gal_cli.data.queries import Query


def open_with(order: str) -> Callable[[pd.DataFrame, Path], AbstractContextManager[OpenEngine]]:
    """Return the function that opens the engine, with an SQL expression of the distance; ``%s`` is the query."""

    @contextmanager
    def open_pg_trgm(pois: pd.DataFrame, folder: Path) -> Iterator[OpenEngine]:
        with postgres(folder) as server, connect(server) as db:
            db.execute("CREATE EXTENSION pg_trgm")
            db.execute("CREATE TABLE pois (row int, address text)")
            with db.cursor().copy("COPY pois FROM STDIN") as copy:
                for row, text in enumerate(pois["address"]):
                    copy.write_row((row, text))
            db.execute("CREATE INDEX ON pois USING gist (address gist_trgm_ops(siglen=64))")
            db.execute("ANALYZE pois")
            [version] = db.execute("SHOW server_version").fetchone()
            sql = f"SELECT row, -({order}) FROM pois ORDER BY {order} LIMIT {DEPTH}"

            def search(query: Query) -> Answers:
                return [(int(row), float(score)) for row, score in db.execute(sql, (query.text, query.text))]

            yield OpenEngine(version.split()[0], search, lambda: memory_mb(server.process))

    return open_pg_trgm


ENGINES = [
    Engine("pg_trgm, similarity", "`address <-> query`, GiST index with siglen 64", open_with("address <-> %s")),
    Engine("pg_trgm, word similarity", "`query <<-> address`, GiST index with siglen 64", open_with("%s <<-> address")),
]
