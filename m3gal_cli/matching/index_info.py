"""Describe an index for ``m3gal index info``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from m3gal_cli.errors import InputError
from m3gal_cli.index.index import Index
from m3gal_cli.index.manifest import MANIFEST
from m3gal_cli.index.segment import DELETED, DUPLICATE
from m3gal_cli.matching.index_model import MODEL_FOLDER, REFERENCE, referenced_checkpoint


@dataclass(frozen=True)
class IndexInfo:
    """Facts about the snapshot of an index."""

    path: Path  # folder of the index
    pois: int  # POIs that answers can contain
    deleted: int  # rows of deleted or replaced POIs, which stay on disk until segments are merged
    duplicates: int  # rows with the text and the coordinates of an earlier POI
    segments: list[int]  # rows of each segment
    nbytes: int  # size of the snapshot on disk, with an embedded model
    dim: int  # width of the vectors
    columns: list[str]  # own columns of the POIs
    model: str | None  # reference to the model (see ``index_model.py``); None: not recorded
    model_opens: bool  # whether the checkpoint exists
    table: str | None  # name of the POI table
    edited: bool  # whether POIs were added or deleted since the index equalled its table
    schema: Any  # schema of the table, as JSON types
    created: str | None  # time of the first build, UTC, ISO 8601
    updated: str | None  # time of the last change
    generation: int | None  # number of the snapshot

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON types."""
        return asdict(self) | {"path": str(self.path)}

    def rows(self) -> list[tuple[str, str]]:
        """Return names and values for a table."""
        opens = "embedded" if self.model == MODEL_FOLDER else self.model or "not recorded"
        sizes = [f"{rows:,}" for rows in self.segments]
        return [
            ("POIs", f"{self.pois:,}"),
            ("deleted", f"{self.deleted:,} rows, until segments are merged"),
            ("duplicates", f"{self.duplicates:,} POIs equal to an earlier one in text and coordinates"),
            ("segments", f"{len(sizes)}: {', '.join(sizes)} rows"),
            ("size", f"{self.nbytes / 1e6:,.1f} MB, vectors of width {self.dim}"),
            ("columns", ", ".join(self.columns) or "none besides poi_id, address, lng, lat"),
            ("model", opens if self.model_opens else f"{opens} (missing: give --checkpoint)"),
            ("POI table", f"{self.table or 'unknown'}{', changed since by add or delete' if self.edited else ''}"),
            ("schema", _schema_words(self.schema)),
            ("created", self.created or "unknown"),
            ("updated", self.updated or "unknown"),
            ("generation", str(self.generation)),
        ]


def index_info(path: Path) -> IndexInfo:
    """Return the facts about an index. Raises InputError if the folder has none, or a damaged one."""
    index = Index(path)
    manifest = index.manifest
    try:
        model_opens = referenced_checkpoint(path) is not None
    except InputError:
        model_opens = False
    files = [path / MANIFEST, *(path / file for file in index.files())]
    files += [file for file in (path / MODEL_FOLDER).rglob("*") if manifest.get(REFERENCE) == MODEL_FOLDER]
    return IndexInfo(
        path=path,
        pois=len(index),
        deleted=int((index.states == DELETED).sum()),
        duplicates=int((index.states == DUPLICATE).sum()),
        segments=[len(segment) for segment in index.segments],
        nbytes=sum(file.stat().st_size for file in files if file.is_file()),
        dim=index.dim,
        columns=list(index.columns),
        model=manifest.get(REFERENCE),
        model_opens=model_opens,
        table=manifest.get("table_name"),
        edited=bool(manifest.get("edited")),
        schema=manifest.get("schema"),
        created=manifest.get("created"),
        updated=manifest.get("updated"),
        generation=manifest.get("generation"),
    )


def _schema_words(schema: Any) -> str:
    """Return the name of a schema and the columns that it reads."""
    if not isinstance(schema, dict):
        return "not recorded"
    columns = [f"{role} = {' or '.join(sources)}" for role, sources in schema.get("columns", {}).items()]
    return f"{schema.get('name')}: {', '.join(columns)}"
