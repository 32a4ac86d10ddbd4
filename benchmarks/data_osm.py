"""Measure time and memory of ``m3gal data osm``, relative to a bare osmium pass over the same extract.

    python benchmarks/data_osm.py --megabytes 200 --json

The large extract consists of copies of a small one, side by side on a grid. Copy k has its ids shifted by k times the
largest id. Its names, streets and towns end in a syllable of their own, so each copy has as many places and unambiguous
views as the original. Node ids are as sparse as in a real extract.

Each command runs as a process of its own, one after another. The bare pass assembles areas and does nothing else. It
runs before and after; the result is the mean, and the spread is the difference. Peak memory is the largest resident set
that the kernel reports. The files are in a temporary folder; --keep names a folder where they stay.
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
from command_line import create_parser, print_values
from osmium.osm import mutable

ROOT = Path(__file__).resolve().parents[1]
PREFERRED = ROOT.parent / "shared" / "data" / "osm" / "liechtenstein.osm.pbf"
BUNDLED = ROOT / "m3gal_cli" / "data" / "sample" / "helsinki.osm.pbf"
NAME_KEYS = frozenset(
    {"name", "alt_name", "old_name", "short_name", "official_name", "loc_name", "int_name",
     "addr:street", "addr:place", "addr:city", "addr:suburb", "addr:district"}
)  # fmt: skip
COLUMNS = 16  # copies per row of the grid
GAP = 0.05  # degrees between copies

# The bare pass loops over all elements in Python, the lean pass only assembles areas.
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
from m3gal_cli.osm.extract_reader import read_extract
from m3gal_cli.osm.facts import gather_facts
from m3gal_cli.osm.place_deduplication import deduplicate_places
start = time.perf_counter()
extract = read_extract(Path(sys.argv[1]))
read = time.perf_counter()
places = deduplicate_places(extract)
distinct = time.perf_counter()
gather_facts(places, extract, [False] * len(places))
done = time.perf_counter()
print(json.dumps({"reading": read - start, "places": distinct - read, "facts": done - distinct}))
"""


@dataclass
class Elements:
    """The elements of an extract as Python values: ids, degrees, tags, references."""

    nodes: list[tuple[int, float, float, dict[str, str]]] = field(default_factory=list)
    ways: list[tuple[int, list[int], dict[str, str]]] = field(default_factory=list)
    relations: list[tuple[int, list[tuple[str, int, str]], dict[str, str]]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Elements:
        """Read a whole extract."""
        self = cls()
        stream: Any = osmium.FileProcessor(str(path))
        for element in stream:
            tags = dict(element.tags)
            if element.is_node():
                self.nodes.append((element.id, element.location.lon, element.location.lat, tags))
            elif element.is_way():
                self.ways.append((element.id, [n.ref for n in element.nodes], tags))
            else:
                self.relations.append((element.id, [(m.type, m.ref, m.role) for m in element.members], tags))
        return self

    def write(self, path: Path, copies: int) -> None:
        """Write ``copies`` copies: all nodes, then all ways, then all relations, as in extracts."""
        stride = 1 + max(max(row[0] for row in rows) for rows in (self.nodes, self.ways, self.relations) if rows)
        lngs, lats = [row[1] for row in self.nodes], [row[2] for row in self.nodes]
        width, height = max(lngs) - min(lngs) + GAP, max(lats) - min(lats) + GAP
        path.unlink(missing_ok=True)
        writer = osmium.SimpleWriter(str(path))
        for k in range(copies):
            east, north, shift, end = k % COLUMNS * width, k // COLUMNS * height, k * stride, syllable(k)
            for number, lng, lat, tags in self.nodes:
                location = (lng + east, lat + north)
                writer.add_node(mutable.Node(id=number + shift, location=location, tags=renamed(tags, end)))
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
    """Return a short pronounceable word, different for every k: Ba, Be, ... Zu, Baba, ..."""
    consonants, vowels = "bdfgklmnprstvz", "aeiou"
    word, base = "", len(consonants) * len(vowels)
    while True:
        k, rest = divmod(k, base)
        word = consonants[rest // len(vowels)] + vowels[rest % len(vowels)] + word
        if k == 0:
            return word.capitalize()
        k -= 1


def renamed(tags: dict[str, str], end: str) -> dict[str, str]:
    """Return the tags with ``end`` appended to every name, street and town."""
    if not tags:
        return tags
    return {k: f"{v} {end}" if k in NAME_KEYS or k.startswith("name:") else v for k, v in tags.items()}


def large_extract(elements: Elements, folder: Path, megabytes: float) -> tuple[Path, int]:
    """Write an extract of about ``megabytes`` (10^6 bytes); return its path and the number of copies."""
    trial = folder / "trial.osm.pbf"
    elements.write(trial, 2)
    copies = max(1, math.ceil(megabytes * 1e6 / (trial.stat().st_size / 2)))
    trial.unlink()
    path = folder / f"copies_{copies}.osm.pbf"
    elements.write(path, copies)
    return path, copies


def timed(command: list[str]) -> tuple[float, float, str]:
    """Return seconds, peak resident MiB and stdout of a command; exit with its stderr if it fails."""
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
    """Return the seconds of an empty loop over all elements of an extract, with areas."""
    return timed([sys.executable, "-c", BARE, str(path)])[0]


def measure(path: Path, folder: Path, options: list[str]) -> dict[str, Any]:
    """Return times and memory of the passes and of ``m3gal data osm`` over an extract."""
    command = [sys.executable, "-m", "m3gal_cli", "data", "osm", str(path), "--output", str(folder / "out"), "--json"]
    before = bare_pass(path)
    lean, lean_mb, _ = timed([sys.executable, "-c", LEAN, str(path)])
    seconds, peak_mb, stdout = timed([*command, *options])
    _, stages_mb, stages = timed([sys.executable, "-c", STAGES, str(path)])
    after = bare_pass(path)
    bare, summary = (before + after) / 2, json.loads(stdout)
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
    """Run the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--megabytes", type=float, default=200, help="size of the extract, in 10^6 bytes (%(default)s)")
    parser.add_argument(
        "--extract",
        type=Path,
        default=PREFERRED,
        help="extract to copy (default: Liechtenstein, else the bundled sample)",
    )
    parser.add_argument(
        "--keep", type=Path, nargs="?", const=Path(tempfile.gettempdir()) / "m3gal_benchmark",
        help="keep the large extract and the tables in this folder (%(const)s without a value)",
    )  # fmt: skip
    parser.add_argument("rest", nargs="*", help="further options of m3gal data osm, after --")
    options = parser.parse_args()
    source = options.extract if options.extract.exists() or options.extract != PREFERRED else BUNDLED
    if not source.exists() or not 0 < options.megabytes < 1e6:
        parser.error(f"{source}: no such extract" if not source.exists() else "--megabytes must be above 0")
    with ExitStack() as stack:
        folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        print(f"copying {source.name} ...", file=sys.stderr)
        path, copies = large_extract(Elements.read(source), folder, options.megabytes)
        print(f"measuring {path.name} ...", file=sys.stderr)
        values = {"extract": source.name, "copies": copies, **measure(path, folder, options.rest)}
    print_values(values, options.json)


if __name__ == "__main__":
    main()
