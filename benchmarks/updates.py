"""Measure updates of an index: add and delete POIs, open it, and answer, against building it anew.

    python benchmarks/updates.py --pois 1000000 --dim 384

The vectors are random unit vectors, so that the time of a model does not count. A half of the added POIs are new, the
others change known ones.

build_s          seconds to build the index from the table
add_s            seconds to add --changes POIs
add_ratio        the same / build_s
delete_s         seconds to delete --changes POIs
delete_ratio     the same / build_s
sync_s           seconds to bring the index up to date with a table of which --changes POIs differ
compact_s        seconds to merge all segments into one
open_s           seconds to open the index in a new process, after the imports
first_answer_s   seconds from there to the first answer of exact search
search_ratio     time of a query on the updated index of several segments / on the merged one, interleaved
megabytes        size on disk of the merged index, and its ratio to the float16 vectors and residuals alone
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from command_line import create_parser, print_values
from numpy.typing import ArrayLike

from m3gal_cli.encoders.fingerprint import Fingerprint
from m3gal_cli.encoders.protocol import Vectors
from m3gal_cli.index.builder import IndexSources, open_or_build
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.factory import SegmentsSearcher
from m3gal_cli.index.index import Index
from m3gal_cli.index.writer import Update, open_writer

OPENING = """
import json, sys, time
from pathlib import Path
import numpy as np
from m3gal_cli.index.exact import ExactSearcher
from m3gal_cli.index.factory import SegmentsSearcher
from m3gal_cli.index.index import Index
start = time.perf_counter()
index = Index(Path(sys.argv[1]))
opened = time.perf_counter()
query = np.random.default_rng(5).standard_normal((1, index.dim)).astype(np.float32)
result = SegmentsSearcher(index, [ExactSearcher(segment) for segment in index.segments]).search(query, 10)
index.pois_at(result.rows[0])
print(json.dumps({"open_s": opened - start, "first_answer_s": time.perf_counter() - opened}))
"""


class RandomEncoder:
    """Encoder of random unit vectors around centres, in the time of drawing random numbers."""

    device = "cpu"

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._centres = np.random.default_rng(7).standard_normal((200, dim)).astype(np.float32)

    def encode_poi_texts(self, texts: Sequence[str], progress: Any = None) -> Vectors:
        """Return vectors of texts. Shape: N texts -> (N, D)."""
        generator = np.random.default_rng(abs(hash(texts[0])))
        vectors = 0.3 * generator.standard_normal((len(texts), self.dim), np.float32)
        vectors += self._centres[generator.integers(0, len(self._centres), len(texts))]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_queries(self, texts: Sequence[str], progress: Any = None) -> Vectors:
        """Return vectors of queries. Shape: N texts -> (N, D)."""
        return self.encode_poi_texts(texts)

    def encode_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Return vectors of locations. Shape: -> (N, D)."""
        out = np.zeros((np.size(lng), self.dim), np.float32)
        out[:, 0], out[:, 1] = np.asarray(lng) / 180, np.asarray(lat) / 90
        return out

    def normalize_locations(self, lng: ArrayLike, lat: ArrayLike) -> Vectors:
        """Return locations unchanged. Shape: -> (N, 2)."""
        return np.stack([np.asarray(lng), np.asarray(lat)], axis=1)


def table(first: int, count: int, turn: int) -> pd.DataFrame:
    """Return POIs with the ids from ``first`` on; ``turn`` changes their texts."""
    generator = np.random.default_rng(first + turn)
    ids = np.arange(first, first + count)
    addresses = [f"cafe {i % 977},amenity,North Street {i % 5011} {i},district {turn}" for i in ids.tolist()]
    places = {"lng": generator.uniform(-180, 180, count).round(7), "lat": generator.uniform(-85, 85, count).round(7)}
    phone = [f"+358 {i * 7919 % 10**9}" for i in ids.tolist()]
    return pd.DataFrame({"poi_id": ids, "address": addresses, **places, "phone": phone})


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def log(text: str) -> None:
    """Print a message to stderr."""
    print(text, file=sys.stderr, flush=True)


def silent(done: int, total: int) -> None:
    """Ignore the progress."""


def updated(path: Path, encoder: RandomEncoder, work: Callable[[Any], Update]) -> tuple[float, Update]:
    """Return the seconds of an update, with opening and closing the index, and its result."""

    def update() -> Update:
        with open_writer(path, lambda: encoder) as writer:
            return work(writer)

    return seconds_of(update)


def exact(index: Index) -> SegmentsSearcher:
    """Return exact search of an index."""
    return SegmentsSearcher(index, [ExactSearcher(segment) for segment in index.segments])


def search_ratio(segments: SegmentsSearcher, merged: SegmentsSearcher, queries: Vectors) -> float:
    """Return the time of single queries on the first searcher, as a ratio to the second; interleaved."""
    spent = np.zeros((len(queries), 2))
    for i, query in enumerate(queries):
        for column, searcher in enumerate((segments, merged)):
            spent[i, column], _ = seconds_of(lambda s=searcher, q=query: s.search(q[None], 10))
    return float(np.median(spent[:, 0]) / np.median(spent[:, 1]))


def measure(folder: Path, pois: int, dim: int, changes: int) -> dict[str, Any]:
    """Return the figures of the module's documentation."""
    encoder, path, whole = RandomEncoder(dim), folder / "index", table(0, pois, 0)
    sources = IndexSources(Fingerprint((), {"m": 1}), Fingerprint((), {"t": 1}), lambda: (whole, None), lambda: encoder)
    values: dict[str, Any] = {"pois": pois, "dim": dim, "changes": changes}
    values["build_s"], _ = seconds_of(lambda: open_or_build(path, sources, log, silent))
    log(f"built: {values['build_s']:.1f} s")
    new = table(pois - changes // 2, changes, 1)
    values["add_s"], update = updated(path, encoder, lambda writer: writer.upsert(new))
    log(f"add: {update.words()}: {values['add_s']:.2f} s")
    values["delete_s"], update = updated(path, encoder, lambda writer: writer.delete(range(changes)))
    log(f"delete: {update.words()}: {values['delete_s']:.2f} s")
    target = pd.concat([whole[changes:], table(2 * pois, changes, 2)], ignore_index=True)
    values["sync_s"], update = updated(path, encoder, lambda writer: writer.sync(target))
    log(f"sync: {update.words()}: {values['sync_s']:.2f} s")
    for name in ("add", "delete"):
        values[f"{name}_ratio"] = values[f"{name}_s"] / values["build_s"]
    opening = [sys.executable, "-c", OPENING, str(path)]
    values |= json.loads(subprocess.run(opening, check=True, capture_output=True, text=True).stdout)
    segments = exact(Index(path))
    values["compact_s"], _ = updated(path, encoder, lambda writer: writer.compact())
    log(f"compact: {values['compact_s']:.2f} s")
    queries = encoder.encode_queries([str(i) for i in range(11)])
    values["search_ratio"] = search_ratio(segments, exact(Index(path)), queries)
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    values["megabytes"], values["size_ratio"] = size / 1e6, size / (4 * dim * len(Index(path)))
    return values


def main() -> None:
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--pois", type=int, default=100_000, help="POIs of the index")
    parser.add_argument("--dim", type=int, default=384, help="width of the vectors")
    parser.add_argument("--changes", type=int, default=1000, help="POIs that are added, and then deleted")
    options: argparse.Namespace = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="m3gal-updates-") as folder:
        print_values(measure(Path(folder), options.pois, options.dim, options.changes), options.json)


if __name__ == "__main__":
    main()
