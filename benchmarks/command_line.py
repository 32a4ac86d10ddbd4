"""Command line of the benchmarks: the option ``--json``, and output of measured values."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any


def create_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with ``--json`` that shows the description unwrapped."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of one line per value")
    return parser


def print_values(values: Mapping[str, Any], as_json: bool) -> None:
    """Print values by name, as lines or as one JSON object."""
    width = max(map(len, values), default=0)
    lines = (f"{name:{width}} {value}" for name, value in values.items())
    print(json.dumps(values, indent=1) if as_json else "\n".join(lines))
