"""How long `m3gal data osm` takes, and how much memory, against a bare osmium pass with areas over the same file.

The large extract is made here: a small one, copied side by side until it has the size asked for. Copy k has its ids
shifted by k times the largest id and its coordinates by a step of the grid, and every name, street and town ends in a
syllable of its own, so that a copy has as many places and unambiguous views as the original. The node ids stay as
sparse as those of a real extract.

    python benchmarks/data_osm.py --megabytes 200 --json

Everything is timed in processes of their own, one after another: the bare pass before and after, of which the mean is
taken, and their difference told as the spread. Peak memory is the largest resident set of `m3gal data osm`, as the
kernel counts it. The files lie in a temporary folder and go in the end, unless --keep says where to leave them.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import osmium
from figures import parser_of, show
from osmium.osm import mutable

ROOT = Path(__file__).resolve().parents[1]
PREFERRED = ROOT.parent / "shared" / "data" / "osm" / "liechtenstein.osm.pbf"
BUNDLED = ROOT / "m3gal_cli" / "data" / "sample" / "helsinki.osm.pbf"
NAME_KEYS = frozenset(
    {"name", "alt_name", "old_name", "short_name", "official_name", "loc_name", "int_name",
     "addr:street", "addr:place", "addr:city", "addr:suburb", "addr:district"}
)  # fmt: skip
COLUMNS = 16  # copies in a row of the grid, west to east
GAP = 0.05  # degrees between copies

BARE = "import sys, osmium\nfor _ in osmium.FileProcessor(sys.argv[1]).with_areas(): pass"
LEAN = """
import sys, osmium
class Areas(osmium.SimpleHandler):
    def area(self, area): pass
Areas().apply_file(sys.argv[1])
"""
STAGES = """
import json, sys, time
from pathlib import Path
from m3gal_cli.osm.extract import read_extract
from m3gal_cli.osm.facts import gather_facts
from m3gal_cli.osm.places import distinct_places
start = time.perf_counter()
extract = read_extract(Path(sys.argv[1]))
read = time.perf_counter()
places = distinct_places(extract)
distinct = time.perf_counter()
gather_facts(places, extract, [False] * len(places))
done = time.perf_counter()
print(json.dumps({"reading": read - start, "places": distinct - read, "facts": done - distinct}))
"""


@dataclass
class Pattern:
    """An extract in plain values, to be copied: ids, degrees, tags, references."""

    nodes: list[tuple[int, float, float, dict[str, str]]] = field(default_factory=list)
    ways: list[tuple[int, list[int], dict[str, str]]] = field(default_factory=list)
    relations: list[tuple[int, list[tuple[str, int, str]], dict[str, str]]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Pattern:
        """The whole of an extract."""
        self = cls()
        stream: Any = osmium.FileProcessor(str(path))
        for thing in stream:
            tags = dict(thing.tags)
            if thing.is_node():
                self.nodes.append((thing.id, thing.location.lon, thing.location.lat, tags))
            elif thing.is_way():
                self.ways.append((thing.id, [n.ref for n in thing.nodes], tags))
            else:
                self.relations.append((thing.id, [(m.type, m.ref, m.role) for m in thing.members], tags))
        return self

    def write(self, path: Path, copies: int) -> None:
        """Write ``copies`` copies: every node first, then every way, then every relation, as extracts are."""
        stride = 1 + max(max(row[0] for row in rows) for rows in (self.nodes, self.ways, self.relations) if rows)
        lngs, lats = [row[1] for row in self.nodes], [row[2] for row in self.nodes]
        width, height = max(lngs) - min(lngs) + GAP, max(lats) - min(lats) + GAP
        path.unlink(missing_ok=True)
        writer = osmium.SimpleWriter(str(path))
        for k in range(copies):
            east, north, shift, end = k % COLUMNS * width, k // COLUMNS * height, k * stride, syllable(k)
            for number, lng, lat, tags in self.nodes:
                spot = (lng + east, lat + north)
                writer.add_node(mutable.Node(id=number + shift, location=spot, tags=renamed(tags, end)))
        for k in range(copies):
            shift, end = k * stride, syllable(k)
            for number, refs, tags in self.ways:
                nodes = [ref + shift for ref in refs]
                writer.add_way(mutable.Way(id=number + shift, nodes=nodes, tags=renamed(tags, end)))
        for k in range(copies):
            shift, end = k * stride, syllable(k)
            for number, members, tags in self.relations:
                moved = [(kind, ref + shift, role) for kind, ref, role in members]
                writer.add_relation(mutable.Relation(id=number + shift, members=moved, tags=renamed(tags, end)))
        writer.close()


def syllable(k: int) -> str:
    """A short pronounceable word for copy k, another one for every k: Ba, Be, ... Zu, Baba, ..."""
    consonants, vowels = "bdfgklmnprstvz", "aeiou"
    word, base = "", len(consonants) * len(vowels)
    while True:
        k, rest = divmod(k, base)
        word = consonants[rest // len(vowels)] + vowels[rest % len(vowels)] + word
        if k == 0:
            return word.capitalize()
        k -= 1


def renamed(tags: dict[str, str], end: str) -> dict[str, str]:
    """The tags with every name, street and town ending in ``end``."""
    if not tags:
        return tags
    return {k: f"{v} {end}" if k in NAME_KEYS or k.startswith("name:") else v for k, v in tags.items()}


def large_extract(pattern: Pattern, folder: Path, megabytes: float) -> tuple[Path, int]:
    """An extract of about that many megabytes (10^6 bytes) and the number of copies in it."""
    trial = folder / "trial.osm.pbf"
    pattern.write(trial, 2)
    copies = max(1, math.ceil(megabytes * 1e6 / (trial.stat().st_size / 2)))
    trial.unlink()
    path = folder / f"copies_{copies}.osm.pbf"
    pattern.write(path, copies)
    return path, copies


def timed(command: list[str]) -> tuple[float, float, str]:
    """Seconds, peak resident megabytes (2^20 bytes) and stdout of a command; its stderr is shown if it fails."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)}\nended with {process.returncode}:\n{err.read().decode()[-2000:]}")
        return seconds, usage.ru_maxrss / 1024, out.read().decode()


def bare_pass(path: Path) -> float:
    """Seconds of a loop over everything in an extract, areas assembled, that does nothing."""
    return timed([sys.executable, "-c", BARE, str(path)])[0]


def measure(path: Path, folder: Path, options: list[str]) -> dict[str, Any]:
    """Time the passes and ``m3gal data osm`` over an extract; the figures as a flat object."""
    command = [sys.executable, "-m", "m3gal_cli", "data", "osm", str(path), "--output", str(folder / "out"), "--json"]
    before = bare_pass(path)
    lean, lean_mb, _ = timed([sys.executable, "-c", LEAN, str(path)])
    seconds, peak_mb, told = timed([*command, *options])
    _, stages_mb, stages = timed([sys.executable, "-c", STAGES, str(path)])
    after = bare_pass(path)
    bare, summary = (before + after) / 2, json.loads(told)
    return {
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "places": summary["places"],
        "pairs": summary["pairs"],
        "seconds": round(seconds, 4),
        "bare_pass_seconds": round(bare, 4),
        "bare_pass_spread": round(abs(before - after), 4),
        "lean_pass_seconds": round(lean, 4),
        "ratio_to_bare_pass": round(seconds / bare, 2),
        "ratio_to_lean_pass": round(seconds / lean, 2),
        "peak_rss_mb": round(peak_mb),
        "lean_pass_rss_mb": round(lean_mb),
        "read_and_join": {k: round(v, 1) for k, v in json.loads(stages).items()},
        "read_and_join_rss_mb": round(stages_mb),
        "stages": summary.get("stages", {}),
    }


def main() -> None:
    """The command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--megabytes", type=float, default=200, help="size of the extract to make, 10^6 bytes")
    parser.add_argument(
        "--extract", type=Path, default=PREFERRED, help="what to copy; the sample city if it is not there"
    )
    parser.add_argument(
        "--keep", type=Path, nargs="?", const=Path(tempfile.gettempdir()) / "m3gal_benchmark",
        help="leave the large extract and the tables in this folder (%(const)s if none is named)",
    )  # fmt: skip
    parser.add_argument("rest", nargs="*", help="options for m3gal data osm, after --")
    given = parser.parse_args()
    source = given.extract if given.extract.exists() or given.extract != PREFERRED else BUNDLED
    if not source.exists() or not 0 < given.megabytes < 1e6:
        parser.error(f"{source}: no such extract" if not source.exists() else "--megabytes must be above 0")
    with ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        print(f"copying {source.name} ...", file=sys.stderr)
        path, copies = large_extract(Pattern.read(source), folder, given.megabytes)
        print(f"measuring {path.name} ...", file=sys.stderr)
        figures = {"extract": source.name, "copies": copies, **measure(path, folder, given.rest)}
    show(figures, given.json)


if __name__ == "__main__":
    main()
