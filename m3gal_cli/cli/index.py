"""``m3gal index``: build an index, keep it current, describe it, and export it with its model."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import typer

from m3gal_cli.cli import evaluation as e
from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import facts_table, note, out, print_json, warn
from m3gal_cli.cli.exit_codes import CHECK_FAILED
from m3gal_cli.cli.options import argument, option, with_options
from m3gal_cli.cli.predict_run import prepare
from m3gal_cli.cli.progress import RowProgress
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    from m3gal_cli.index.writer import Update
    from m3gal_cli.matching.session import Session

app = typer.Typer(no_args_is_help=True, help="Build an index and keep it current: add, delete, info, compact, export.")
SHOWN_IDS = 10
STDIN = Path("-")

FROM = option("--from", Path, "File with an id per line; - is stdin.", metavar="FILE", allow_dash=True)
TABLE_OF_INDEX = option("--pois", Path, "POI table whose index in the run is meant (default: the table of the run).")
WHICH_INDEX = (o.INDEX_DIR, o.CHECKPOINT, TABLE_OF_INDEX, o.RUNS_DIR)
MODEL = (o.CONFIG, o.SETS, o.TEXT_ENCODER, o.DEVICE)


@app.command("build")
@with_options(
    o.POIS,
    o.CHECKPOINT,
    o.INDEX_DIR,
    option("--index", str, "Search method to prepare: auto, exact, ann or milvus (default: auto)."),
    option("--recall", float, "Target recall of ann against exact search (default: 0.95)."),
    option("--uri", str, "Milvus server (http://HOST:19530) or file of Milvus Lite."),
    o.DATA_DIR,
    o.DATA_SUFFIX,
    o.DATUM,
    o.COLUMNS,
    o.SKIP_BAD,
    o.RUNS_DIR,
    *MODEL,
    o.AS_JSON,
)
def build(values: dict[str, Any]) -> None:
    """Build the index of a POI table, or bring it up to date with the table.

    Processes started by torchrun share the work. An interrupted build continues at the next call.
    """
    session = e.open_session(values, load=False)
    matcher = prepare(session)
    if matcher is None:
        return
    if session.is_alone:
        note(f"index {session.index_folder}: used unchanged; --pois FILE brings it up to date with a table")
    _print_info(matcher.index.path, values["json"])


@app.command("add")
@with_options(
    argument(
        "file", "POI table with an id column, in any format; - is stdin with a JSON object per line.", allow_dash=True
    ),
    *WHICH_INDEX,
    o.DATUM,
    o.COLUMNS,
    o.SKIP_BAD,
    *MODEL,
    o.AS_JSON,
)
def add(values: dict[str, Any]) -> None:
    """Add the POIs of a table to an index. A POI with a known id replaces the old one."""
    start = time.monotonic()
    session = e.open_session(values, load=False)
    folder = _require_index(session.index_folder)
    session.check_model()
    name = "stdin" if values["file"] == STDIN else values["file"].name
    if values["datum"] is None:
        _check_datum(folder, session.config.data.datum, name)
    with _file_or_stdin(values["file"]) as path:
        pois, _schema = session.read_pois(path, with_ids=True)
    with _writer(folder, session) as writer:
        session.check_model(writer.index.manifest)  # another process may have replaced the index before it was locked
        if not _has_ids(writer.index.manifest):
            warn(f"the ids of index {folder} are row numbers; ids of {name} that are whole numbers replace these POIs")
        update = writer.upsert(pois)
    words = f"{name}: {update.added:,} added, {update.changed:,} changed, {update.unchanged:,} unchanged"
    texts = f"{update.encoded:,} {'text' if update.encoded == 1 else 'texts'} encoded"
    words += f"; {texts} in {time.monotonic() - start:.1f} s"
    _report(folder, words, update, values["json"])


@app.command("delete")
@with_options(
    argument("ids", "Ids of POIs; write -- before ids that start with -.", kind=list[str] | None, default=None),
    FROM,
    *WHICH_INDEX,
    o.AS_JSON,
)
def delete(values: dict[str, Any]) -> None:
    """Delete POIs from an index by their ids.

    Ids that are not in the index are named, and the exit code is 1. If none of them is, nothing changes.
    """
    ids = [*(values["ids"] or ()), *_ids_from(values["from_"])]
    if not ids:
        raise InputError("no ids to delete", hint="Give ids as arguments, or --from FILE with an id per line.")
    folder = _index_folder(values)
    with _writer(folder) as writer:
        update = writer.delete(ids)
    unknown = _names(update.not_found)
    if not update.removed:
        hint = "m3gal predict and the POI table show the ids of the index."
        raise InputError(f"none of these ids is in the index: {unknown}", where=folder, hint=hint)
    _report(folder, f"{update.removed:,} removed", update, values["json"])
    if update.not_found:
        count = len(update.not_found)
        warn(f"{count:,} {'id is' if count == 1 else 'ids are'} not in the index: {unknown}")
        raise typer.Exit(CHECK_FAILED)


@app.command("compact")
@with_options(*WHICH_INDEX, o.AS_JSON)
def compact(values: dict[str, Any]) -> None:
    """Merge all segments of an index into one and drop its deleted POIs from the disk."""
    folder = _index_folder(values)
    with _writer(folder) as writer:
        update = writer.compact()
    _report(folder, f"{update.unchanged:,} POIs in one segment", update, values["json"])


@app.command("info")
@with_options(*WHICH_INDEX, o.AS_JSON)
def info(values: dict[str, Any]) -> None:
    """Describe an index: POIs, segments, columns, model, POI table and size."""
    _print_info(_index_folder(values), values["json"])


@app.command("export")
@with_options(argument("target", "The zip file to write, e.g. helsinki.zip."), *WHICH_INDEX, *MODEL, o.AS_JSON)
def export(values: dict[str, Any]) -> None:
    """Write an index and its model to a zip file, which answers queries on any machine.

    There: unzip INDEX.zip -d FOLDER, then m3gal predict --index-dir FOLDER QUERIES.
    """
    from m3gal_cli.matching.bundle import export_index

    session = e.open_session(values, load=False)
    _require_index(session.index_folder)
    with RowProgress("writing bytes") as progress:
        bundle = export_index(session, values["target"], progress)
    if values["json"]:
        print_json(asdict(bundle) | {"path": str(bundle.path)})
    else:
        out().print(bundle.words(), soft_wrap=True)


def _index_folder(values: dict[str, Any]) -> Path:
    """Return the folder of the index that the options mean; the model is not opened. Raises InputError."""
    from m3gal_cli.config.load import load_config
    from m3gal_cli.matching.index_model import check_index_folder

    folder = load_config(overrides=o.overrides(values)).eval.index_dir
    if folder is not None:
        return _require_index(check_index_folder(Path(folder)))
    return _require_index(e.open_session(values, load=False).index_folder)


def _require_index(folder: Path) -> Path:
    from m3gal_cli.index.manifest import no_index, read_manifest

    if read_manifest(folder) is None:
        raise no_index(folder)
    return folder


def _check_datum(folder: Path, datum: str, name: str) -> None:
    """Raise InputError if the table of the index was read with another datum than the default one."""
    from m3gal_cli.index.manifest import read_manifest

    table = (read_manifest(folder) or {}).get("table") or {}
    recorded = (table.get("also") or {}).get("datum", datum)
    if recorded != datum:
        hint = f"Name the datum of {name}: --datum {recorded} or --datum {datum}."
        raise InputError(f"the table of the index was read with --datum {recorded}", where=folder, hint=hint)


def _has_ids(manifest: dict[str, Any]) -> bool:
    """Return whether the ids of an index are from its table; they are row numbers if the table had none."""
    return manifest.get("schema") is None or "id" in manifest["schema"].get("columns", {})


@contextmanager
def _writer(folder: Path, session: Session | None = None) -> Iterator[Any]:
    """Open the writer of an index; without a session, only for changes that encode nothing. Raises InputError."""
    from m3gal_cli.index.writer import open_writer

    def load_encoder() -> Any:
        assert session is not None, "deleting and merging encode nothing"
        return session.encoder

    with RowProgress("encoding POIs") as progress, open_writer(folder, load_encoder, note, progress) as writer:
        yield writer


@contextmanager
def _file_or_stdin(path: Path) -> Iterator[Path]:
    """Yield the path of a table; stdin is copied to a file first."""
    if path != STDIN:
        yield path
        return
    with TemporaryDirectory(prefix="m3gal-") as folder:
        copy = Path(folder) / "stdin.jsonl"
        with copy.open("wb") as file:
            while block := sys.stdin.buffer.read(1 << 20):
                file.write(block)
        try:
            yield copy
        except InputError as error:
            where = None if error.where is None else error.where.replace(str(copy), "<stdin>")
            raise InputError(error.what, where=where, hint=error.hint) from error


def _ids_from(path: Path | None) -> list[str]:
    """Return the ids of a file or of stdin, one per line. Raises InputError."""
    from m3gal_cli.data.lines import open_lines

    if path is None:
        return []
    with open_lines(sys.stdin if path == STDIN else path, "file of ids") as lines:
        return [line.strip() for line in lines if line.strip()]


def _names(ids: list[str]) -> str:
    """Return the first ids as text."""
    rest = len(ids) - SHOWN_IDS
    return ", ".join(map(str, ids[:SHOWN_IDS])) + (f" and {rest:,} more" if rest > 0 else "")


def _report(folder: Path, words: str, update: Update, as_json: bool) -> None:
    if as_json:
        print_json({"index": str(folder)} | asdict(update))
    else:
        out().print(words, soft_wrap=True, markup=False)


def _print_info(folder: Path, as_json: bool) -> None:
    from m3gal_cli.matching.index_info import index_info

    facts = index_info(folder)
    if as_json:
        print_json(facts.to_json())
    else:
        out().print(facts_table(str(folder), facts.rows()))
