"""What every benchmark's command line has: an option --json, and figures on stdout, one a line or as one object."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a description as it is written."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="one JSON object on stdout instead of a line a figure")
    return made


def show(figures: Mapping[str, Any], as_json: bool) -> None:
    """Print figures by name."""
    width = max(map(len, figures), default=0)
    lines = (f"{name:{width}} {value}" for name, value in figures.items())
    print(json.dumps(figures, indent=1) if as_json else "\n".join(lines))
