"""``m3gal runs``: list the trained runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from m3gal_cli.cli.console import note, out, print_json
from m3gal_cli.cli.options import AS_JSON, RUNS_DIR, with_options

app = typer.Typer(no_args_is_help=True, help="Show trained runs.")


@app.command("list")
@with_options(RUNS_DIR, AS_JSON)
def list_runs(values: dict[str, Any]) -> None:
    """List the runs of a folder, the newest first: stage, steps, best metric, date and best checkpoint."""
    from m3gal_cli.config.load import load_config
    from m3gal_cli.encoders.run_summaries import run_summaries

    folder = Path(values["runs_dir"] or load_config().run.dir)
    runs = run_summaries(folder)
    if values["json"]:
        print_json([run.to_json() for run in runs])
        return
    if not runs:
        note(f"{folder}: no run with a checkpoint")
        return
    table = Table(title=str(folder), title_justify="left")
    for name in ("run", "stage", "steps", "best", "date", "checkpoint"):
        table.add_column(name, justify="right" if name in ("steps", "best") else "left", overflow="fold")
    for run in runs:
        metric = "" if run.value is None else f"{run.metric} {run.value:.3f}"
        table.add_row(escape(run.name), run.stage, f"{run.steps:,}", metric, run.date, escape(str(run.checkpoint)))
    out().print(table)
