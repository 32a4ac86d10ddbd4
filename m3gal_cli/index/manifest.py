"""The manifest of an index: the record of its current snapshot, which is replaced atomically.

INDEX/
  manifest.json      the snapshot: fingerprints of model and table, and the segments in order of age
  segments/NAME/     immutable segments (see ``segment.py``)
  building/          a segment that is being built
"""

from __future__ import annotations

import json
import shutil
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from m3gal_cli.errors import InputError
from m3gal_cli.files import atomic_text, read_json, remove_folder

FORMAT = 2
MANIFEST, SEGMENTS, BUILDING, BUILDING_FILE = "manifest.json", "segments", "building", "building.json"
FORMAT_1_ENTRIES = ("building.json", "pois.parquet", "vectors", "lexicon.npz", "head", "ann")
STATES, FREQUENCIES = "states", "lexicon"
BUILD_AGAIN = "Delete the folder of the index, and build it again from its table: m3gal index build --pois FILE."

Manifest = dict[str, Any]


def read_manifest(index: Path) -> Manifest | None:
    """Return the manifest of a complete index; None if the folder has none of this format."""
    manifest = read_json(index / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    return manifest if isinstance(manifest.get("segments"), list) else None


def no_index(index: Path) -> InputError:
    """Return the error for a folder without a manifest that can be read."""
    if not (index / MANIFEST).exists():
        hint = "Build it with m3gal index build, or name another one with --index-dir or --pois."
        return InputError("no index", where=index, hint=hint)
    manifest = read_json(index / MANIFEST)
    if isinstance(manifest, dict) and manifest.get("format") != FORMAT:
        return InputError("an index of another version of m3gal", where=index, hint=BUILD_AGAIN)
    return InputError(f"damaged index: {MANIFEST} is not readable", where=index, hint=BUILD_AGAIN)


def new_manifest(model: dict[str, Any], dim: int, old: Manifest | None = None) -> Manifest:
    """Return the manifest of an index without segments; its generation follows that of ``old``."""
    start = {"format": FORMAT, "id": uuid.uuid4().hex, "generation": (old or {}).get("generation", 0)}
    start |= {"created": _now(), "updated": _now(), "model": model, "model_reference": None}
    return start | {"table": None, "table_name": None, "edited": False, "schema": None, "dim": dim, "segments": []}


def write_manifest(index: Path, manifest: Manifest, **changes: Any) -> Manifest:
    """Write the manifest of the next generation and return it. Raises InputError, such as for a full disk."""
    new = manifest | {"generation": manifest["generation"] + 1, "updated": _now()} | changes
    with atomic_text(index / MANIFEST) as file:
        json.dump(new, file, indent=1, ensure_ascii=False)
    return new


def state_files(generation: int) -> tuple[str, str]:
    """Return the names of the states and of the document frequencies of a segment in a generation."""
    return f"{STATES}.{generation}.npy", f"{FREQUENCIES}.{generation}.npz"


def unused(index: Path, manifest: Manifest) -> list[Path]:
    """Return the files and folders that the manifest does not name: replaced ones, and those of killed processes."""
    states = {entry["name"]: entry["states"] for entry in manifest["segments"]}
    found = [index / name for name in FORMAT_1_ENTRIES if (index / name).exists()]
    found += [*index.glob(f".{MANIFEST}.*.tmp"), *index.glob(".*.old"), *(index / SEGMENTS).glob(".*")]
    for folder in (index / SEGMENTS).glob("[!.]*"):
        if folder.name not in states:
            found.append(folder)
            continue
        current = state_files(states[folder.name])
        found += [p for kind in (STATES, FREQUENCIES) for p in folder.glob(f"{kind}.*") if p.name not in current]
        found += [p for kind in (STATES, FREQUENCIES) for p in folder.glob(f".{kind}.*.tmp")]
        found += [*folder.glob("vectors/.*.tmp"), *folder.glob(".terms.*.tmp")]
    return found


def remove_unused(index: Path, manifest: Manifest) -> None:
    """Remove the files and folders that the manifest does not name; ignore failures."""
    for path in unused(index, manifest):
        with suppress(OSError):
            if not path.is_dir():
                path.unlink()
            elif path.name.startswith("."):
                shutil.rmtree(path)
            else:
                remove_folder(path)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
