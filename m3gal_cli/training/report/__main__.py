"""Make the reports of runs again: ``python -m m3gal_cli.training.report runs/NAME …``."""

from __future__ import annotations

import sys
from pathlib import Path

from m3gal_cli.errors import InputError
from m3gal_cli.training.report import REPORT_FILE, write_report


def main(paths: list[str]) -> int:
    """Write the reports and print their paths; return the exit code."""
    if not paths:
        sys.stderr.write("error: no run is given\nUse: python -m m3gal_cli.training.report runs/NAME\n")
        return 2
    for path in paths:
        try:
            write_report(Path(path))
        except InputError as error:
            sys.stderr.write(f"error: {error.render()}\n")
            return 2
        sys.stdout.write(f"{Path(path) / REPORT_FILE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
