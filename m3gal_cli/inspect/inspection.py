"""The options and the result of a data inspection, and helpers that fill the result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from m3gal_cli.geo.datums import Datum
from m3gal_cli.inspect.city import City, FactCoverage, PlaceDetails

if TYPE_CHECKING:
    from m3gal_cli.inspect.datum_check import DatumComparison


@dataclass(frozen=True)
class InspectOptions:
    """Options of a data inspection.

    Attributes:
        seed: Random seed for the choice of example rows and places.
        examples: Largest number of example rows, spread over the file.
        datum: Datum of the coordinates in the file and in the tables beside it.
        places: Largest number of places to show with all their views; None: 20 if the city has views, else 0.
        place: Id of a single place to show instead.
        against: Extract, facts or POI table of the same city to compare the coordinates with.
        against_datum: Datum of ``against``.
        columns: Columns of a POI table by role; see ``data.poi_reader.PoiOptions``.
        bad_rows: File for the invalid rows of a POI table, which are left out; None: they are errors.
    """

    seed: int = 0
    examples: int = 10
    datum: Datum = "wgs84"
    places: int | None = None
    place: str | None = None
    against: Path | None = None
    against_datum: Datum = "wgs84"
    columns: str | None = None
    bad_rows: Path | None = None


@dataclass
class Inspection:
    """Result of inspecting one file.

    Attributes:
        path: The file that was read: the .jsonl twin if that replaced a .pth, the main table of a folder.
        kind: view table, POI table, facts, candidate records or queries.
        facts: (label, value as text with its unit), in reading order.
        numbers: The same values as numbers, by machine-readable key.
        examples: Rows spread over the file; the column ``row`` holds their row numbers, from 1.
        warnings: Suspected problems, one sentence each.
        notes: Messages, such as the number of rows that were left out.
        city: Places with their views and facts; None for candidate records and queries.
        places: A sample of these places, spread over space and over kinds of place.
        fact_coverage: Share of the places of each kind that have each fact, largest kind first, all kinds last.
        datum_comparison: Comparison of the coordinates with those of a reference, if one was given.
    """

    path: Path
    kind: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, float | int | None] = field(default_factory=dict)
    examples: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    city: City | None = None
    places: list[PlaceDetails] = field(default_factory=list)
    fact_coverage: list[FactCoverage] = field(default_factory=list)
    datum_comparison: DatumComparison | None = None

    def add(self, label: str, value: float | int, *, key: str | None = None) -> None:
        """Append a number to ``facts`` and store it in ``numbers``; ``key`` defaults to the label with underscores."""
        number = value.item() if isinstance(value, np.generic) else value
        self.facts.append((label, f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"))
        self.numbers[key or label.replace(" ", "_")] = number

    def add_lengths(self, label: str, texts: Iterable[str]) -> None:
        """Append minimum, median, 95th percentile and maximum of the text lengths, in characters."""
        lengths = [len(text) for text in texts]
        statistics = {"min": min(lengths), "median": np.median(lengths), "p95": np.percentile(lengths, 95)}
        self.add_statistics(f"{label}: length", statistics | {"max": max(lengths)}, ".0f", " characters")

    def add_counts(self, label: str, counts: Sequence[int]) -> None:
        """Append minimum, median and maximum of counts."""
        self.add_statistics(label, {"min": min(counts), "median": np.median(counts), "max": max(counts)}, "g")

    def add_statistics(self, label: str, statistics: dict[str, Any], style: str, unit: str = "") -> None:
        """Append several statistics of one quantity, in one fact."""
        key = label.replace(": ", " ").replace(" ", "_")
        self.numbers |= {f"{key}_{name}": float(value) for name, value in statistics.items()}
        self.facts.append((label, ", ".join(f"{name} {value:{style}}" for name, value in statistics.items()) + unit))

    def set_examples(self, frame: pd.DataFrame, rows: Sequence[int]) -> None:
        """Store example rows and their numbers (from 0; shown from 1), unless the frame has a column ``row``."""
        frame = frame.reset_index(drop=True)
        if "row" not in frame.columns:
            frame.insert(0, "row", [row + 1 for row in rows])
        self.examples = frame

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON-serialisable values."""
        rows = self.examples.astype(object).where(self.examples.notna(), None).to_dict("records")
        return {
            "path": str(self.path),
            "kind": self.kind,
            "facts": dict(self.facts),
            "numbers": self.numbers,
            "warnings": list(self.warnings),
            "examples": [{str(name): json_value(value) for name, value in row.items()} for row in rows],
            "places": [place.to_json() for place in self.places],
            "fact_shares": [asdict(coverage) for coverage in self.fact_coverage],
            "shift": None if self.datum_comparison is None else asdict(self.datum_comparison),
        }


def spread_rows(total: int, options: InspectOptions) -> list[int]:
    """Return sorted row numbers from 0: one random row from each of ``options.examples`` equal parts of the file."""
    count = min(max(options.examples, 0), total)
    edges = np.linspace(0, total, count + 1).astype(int)
    generator = np.random.default_rng(options.seed)
    return [int(generator.integers(low, high)) for low, high in pairwise(edges)]


def json_value(value: Any) -> Any:
    """Return a table cell as a JSON-serialisable value."""
    if isinstance(value, dict):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [json_value(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return value if value is None or isinstance(value, str | int | float) else str(value)
