"""What was found in a file, as plain data: facts to read, numbers to reckon with, rows to look at, warnings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from m3gal_cli.inspect.city import City, PlaceCard, Share
    from m3gal_cli.inspect.datum_check import Shift


@dataclass
class Inspection:
    """What was found in a file.

    Args:
        path: The file that was read (a .jsonl twin if that stood in for a .pth), or the folder.
        kind: view table, POI table, facts, candidate records or queries.
        facts: (name, value) in reading order, values written out with their units.
        numbers: The same as numbers, by machine-readable name.
        examples: Rows spread over the file, with the row numbers (from 1) in the column row.
        warnings: Suspected problems in words.
        city: The places with their views and facts, where the file is one of them.
        places: Some of these places, spread over space and kind of place.
        shares: How many places of each kind have each fact, the biggest kind first; empty where no facts are at hand.
        shift: Whether the coordinates lie beside those of an extract, where one was given.
    """

    path: Path
    kind: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, float | int | None] = field(default_factory=dict)
    examples: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: list[str] = field(default_factory=list)
    city: City | None = None
    places: list[PlaceCard] = field(default_factory=list)
    shares: list[Share] = field(default_factory=list)
    shift: Shift | None = None

    def add(self, name: str, value: float | int, unit: str = "", *, key: str | None = None) -> None:
        """Append a number to the facts and, under its key, to the numbers."""
        number = value.item() if isinstance(value, np.generic) else value
        shown = f"{number:,}" if isinstance(number, int) else f"{number:,.6g}"
        self.facts.append((name, f"{shown} {unit}".strip()))
        self.numbers[key or name.replace(" ", "_")] = number

    def to_json(self) -> dict[str, Any]:
        """A JSON-able form, with the examples as a list of rows and the shares as fact_shares."""
        rows = self.examples.astype(object).where(self.examples.notna(), None).to_dict("records")
        return {
            "path": str(self.path),
            "kind": self.kind,
            "facts": dict(self.facts),
            "numbers": self.numbers,
            "warnings": list(self.warnings),
            "examples": [{str(k): plain(v) for k, v in row.items()} for row in rows],
            "places": [card.to_json() for card in self.places],
            "fact_shares": [share.to_json() for share in self.shares],
            "shift": None if self.shift is None else self.shift.to_json(),
        }


def add_lengths(found: Inspection, name: str, texts: Iterable[str]) -> None:
    """Append the lengths of texts in characters."""
    lengths = np.array([len(text) for text in texts])
    told = {"min": lengths.min(), "median": np.median(lengths), "p95": np.percentile(lengths, 95), "max": lengths.max()}
    label = name.replace(" ", "_")
    found.numbers |= {f"{label}_length_{key}": float(value) for key, value in told.items()}
    shown = ", ".join(f"{key} {value:.0f}" for key, value in told.items())
    found.facts.append((f"{name}: length", f"{shown} characters"))


def spread_rows(total: int, seed: int, examples: int) -> list[int]:
    """Sorted row numbers from 0: one seeded row from each of ``examples`` equal stretches of the file."""
    count = min(max(examples, 0), total)
    edges = np.linspace(0, total, count + 1).astype(int)
    generator = np.random.default_rng(seed)
    return [int(generator.integers(low, high)) for low, high in pairwise(edges)]


def numbered(frame: pd.DataFrame, rows: Sequence[int]) -> pd.DataFrame:
    """``frame`` with the numbers of its rows, from 1, in front, unless it has a column row."""
    frame = frame.reset_index(drop=True)
    if "row" not in frame.columns:
        frame.insert(0, "row", [row + 1 for row in rows])
    return frame


def plain(value: Any) -> Any:
    """A cell as JSON knows it."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value
