"""Export an index with its model as one zip file, which answers queries on any machine.

BUNDLE.zip
  manifest.json, segments/   the current snapshot of the index; see m3gal_cli/index
  model/                     the checkpoint without the state of its training, and config.yaml
  README.md                  how to use it, licence and attribution

Equal snapshots give equal bytes. No file holds a path, a user name or a host name of the machine.
"""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m3gal_cli.config.load import dump_config
from m3gal_cli.config.paths import RUN_FOLDER
from m3gal_cli.config.schema import Config, DataConfig, RunConfig
from m3gal_cli.core.checkpoint_layout import (
    CARD_FILE,
    LOCATION_FOLDER,
    META_FILE,
    POI_FOLDER,
    QUERY_FOLDER,
    TEXT_FOLDER,
    WEIGHTS_FILE,
)
from m3gal_cli.encoders.checkpoint_lookup import CONFIG_FILE
from m3gal_cli.encoders.model_loading import open_checkpoint, poi_fingerprint
from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_path, read_json
from m3gal_cli.index.index import Index
from m3gal_cli.index.manifest import MANIFEST
from m3gal_cli.matching.index_model import MODEL_FOLDER, REFERENCE
from m3gal_cli.matching.session import Session
from m3gal_cli.rerank.weights import WEIGHTS_FILE as RERANKER_FILE

if TYPE_CHECKING:
    from m3gal_cli.encoders.protocol import Progress

TEXT_FOLDERS = (QUERY_FOLDER, POI_FOLDER, TEXT_FOLDER)
NOTICE_FILE = "NOTICE.md"  # of the packaged model
MODEL_FILES = (META_FILE, CARD_FILE, RERANKER_FILE, NOTICE_FILE, WEIGHTS_FILE)  # the last one: format 1
PATH_KEYS = ("_name_or_path", "name_or_path")  # transformers records here where a model was read from
ONLINE_WEIGHTS = "online.safetensors"  # only for further pretraining
README_FILE = "README.md"
DATE = (1980, 1, 1, 0, 0, 0)
BLOCK_BYTES = 1 << 20
ATTEMPTS = 5  # to read a snapshot that a writer replaces meanwhile

README = """\
# An index of m3gal: {pois:,} POIs and the model that encoded them

It answers place queries without any other file, and without a network:

    pip install m3gal
    m3gal predict --index-dir FOLDER queries.jsonl

FOLDER is the folder of this file. `m3gal index info --index-dir FOLDER` describes the index, and
`m3gal index add FILE --index-dir FOLDER` adds and replaces POIs.

The POIs were read from {table}. Their licence is that of this table.

## Model

{attribution}

Languages: {languages}

Licence of the weights: {licence}

`model/README.md` is the model card. The model serves for answers. It lacks the state for further training.
"""


@dataclass(frozen=True)
class Bundle:
    """An exported index: its file, and the numbers of its POIs, files and bytes."""

    path: Path
    pois: int
    files: int
    nbytes: int

    def words(self) -> str:
        """Return one line for the user."""
        return f"{self.path}: {self.pois:,} POIs and their model, {self.files} files, {self.nbytes / 1e6:,.1f} MB"


def export_index(session: Session, target: Path, progress: Progress) -> Bundle:
    """Write the index of a session and its model to a zip file, atomically.

    Args:
        session: The model of the index, with its folder. Paths, the device and the Milvus server of the settings are
            left out.
        target: The zip file; an old one is replaced.
        progress: Called with the bytes written and the bytes in all.

    Raises:
        InputError: There is no index, it is of another model, or the disk is full.
    """
    if target.suffix.lower() != ".zip" or target.is_dir():
        raise InputError("an index is exported to a zip file", where=target, hint="Give a name that ends in .zip.")
    folder = session.index_folder
    with atomic_path(target) as temporary, _staged_model(session.checkpoint, session.config) as model:
        record = poi_fingerprint(model, session.config).record() | {"files": []}
        for attempt in range(1, ATTEMPTS + 1):
            snapshot = Index(folder)
            session.check_model(snapshot.manifest)
            try:
                count = _write(temporary, snapshot, model, record, progress)
                break
            except FileNotFoundError as error:  # a writer has merged segments meanwhile
                if attempt == ATTEMPTS:
                    what = f"a file of the index is missing ({error.filename})"
                    raise InputError(what, where=folder, hint="Try again when no update runs.") from error
        nbytes = temporary.stat().st_size
    return Bundle(target, len(snapshot), count, nbytes)


@contextmanager
def _staged_model(checkpoint: Path, config: Config) -> Iterator[Path]:
    """Yield a temporary folder with the files of the model. Weights are links, files with paths are rewritten."""
    with tempfile.TemporaryDirectory(prefix="m3gal-") as name:
        folder = Path(name) / MODEL_FOLDER
        if checkpoint.is_dir():
            folder.mkdir()
            source = checkpoint.resolve()
        else:
            from m3gal_cli.core.checkpoint import save_checkpoint

            save_checkpoint(folder, open_checkpoint(checkpoint, config))
            source = folder
        for path in _model_files(source):
            _stage(path, folder / path.relative_to(source))
        (folder / CONFIG_FILE).write_text(dump_config(_without_paths(config)), encoding="utf-8")
        yield folder


def _model_files(checkpoint: Path) -> list[Path]:
    """Return the files of a checkpoint directory that answering needs."""
    folders = (*TEXT_FOLDERS, LOCATION_FOLDER)
    paths = [path for folder in folders for path in (checkpoint / folder).rglob("*")]
    paths += [checkpoint / name for name in MODEL_FILES]
    return sorted(p for p in paths if p.is_file() and p.name != ONLINE_WEIGHTS and not p.name.startswith("."))


def _stage(source: Path, path: Path) -> None:
    """Link ``path`` to a source; write it without paths of the machine if the source is JSON that holds some."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = read_json(source) if path.suffix == ".json" else None
    if isinstance(content, dict) and any(key in content for key in PATH_KEYS):
        kept = {key: value for key, value in content.items() if key not in PATH_KEYS}
        path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    elif source != path:
        path.symlink_to(source)


def _without_paths(config: Config) -> Config:
    """Return the settings of a run without paths, host names and the device of the machine."""
    data = DataConfig(dir=f"{RUN_FOLDER}/data", datum=config.data.datum)  # a folder that does not exist
    run = config.run.model_copy(update={name: getattr(RunConfig(), name) for name in ("dir", "name")})
    evaluation = config.eval.model_copy(update={"index_dir": None, "uri": None})
    model = config.model.model_copy(update={"text_encoder": None})
    update = {"device": "auto", "data": data, "model": model, "run": run, "eval": evaluation}
    return config.model_copy(update=update)


def _write(path: Path, snapshot: Index, model: Path, record: dict[str, Any], progress: Progress) -> int:
    """Write the zip file and return the number of its files. Raises FileNotFoundError if the snapshot is replaced."""
    manifest = dict(snapshot.manifest) | {"model": record, REFERENCE: MODEL_FOLDER}
    if isinstance(table := manifest.get("table"), dict):
        manifest["table"] = table | {"files": []}
    entries: dict[str, Path | bytes] = {MANIFEST: json.dumps(manifest, indent=1, ensure_ascii=False).encode()}
    entries[README_FILE] = _readme(snapshot, model).encode()
    entries |= {file.as_posix(): snapshot.path / file for file in snapshot.files()}
    entries |= {f"{MODEL_FOLDER}/{p.relative_to(model).as_posix()}": p for p in model.rglob("*") if p.is_file()}
    total = sum(len(content) if isinstance(content, bytes) else content.stat().st_size for content in entries.values())
    done = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for entry in sorted(entries):
            content = entries[entry]
            info = zipfile.ZipInfo(entry, DATE)
            info.create_system, info.external_attr = 3, 0o100644 << 16  # Unix: rw-r--r--, also if written on Windows
            if isinstance(content, bytes):
                archive.writestr(info, content)
                done += len(content)
                continue
            with content.open("rb") as source, archive.open(info, "w", force_zip64=True) as file:
                while block := source.read(BLOCK_BYTES):
                    file.write(block)
                    done += len(block)
                    progress(done, total)
    return len(entries)


def _readme(snapshot: Index, model: Path) -> str:
    from m3gal_cli.core.model_card import UNKNOWN_ATTRIBUTION, UNKNOWN_LICENCE, TrainingData

    data = TrainingData.from_json((read_json(model / META_FILE) or {}).get("data"))
    return README.format(
        pois=len(snapshot),
        table=snapshot.manifest.get("table_name") or "a table without a name",
        attribution="\n".join(f"- {line}" for line in data.attribution) or UNKNOWN_ATTRIBUTION,
        languages=", ".join(data.languages) or "not recorded",
        licence=data.licence or UNKNOWN_LICENCE,
    )
