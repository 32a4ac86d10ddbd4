"""Command line of the benchmarks: the option ``--json``, output of measured values, and exit codes."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from m3gal_cli.errors import InputError


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


def run_and_exit(
    run: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser, words: Sequence[str] | None
) -> NoReturn:
    """Run a benchmark that continues where it stopped, and exit.

    The exit code is that of ``run``; 2 for wrong input, 130 if interrupted.

    Args:
        run: Measures what is missing and returns the exit code. It may raise InputError.
        parser: Parses the words.
        words: The command line; None: that of the process.
    """
    try:
        sys.exit(run(parser.parse_args(words)))
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted; run the same command to continue", file=sys.stderr)
        sys.exit(130)
