"""Make the report of runs again: ``python -m m3gal_cli.training.report runs/NAME …``."""

from __future__ import annotations

import sys
from pathlib import Path

from m3gal_cli.errors import InputError
from m3gal_cli.training.report import REPORT_FILE, write_report


def main(paths: list[str]) -> int:
    if not paths:
        sys.stderr.write("error: which run?\nWrite python -m m3gal_cli.training.report runs/NAME.\n")
        return 2
    for path in paths:
        try:
            write_report(Path(path))
        except InputError as wrong:
            sys.stderr.write(f"error: {wrong.render()}\n")
            return 2
        sys.stdout.write(f"{Path(path) / REPORT_FILE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
