"""Output of the commands: data on stdout, messages and progress on stderr, and the tables of both."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

WIDTH_OFF_TERMINAL = 120
JSON_ONLY_METRICS = ("mrr@1", "mrr@3")  # mrr@1 equals recall@1; a table of 120 columns has no room for mrr@3

_open_bars: list[Console] = []  # consoles of the progress bars on the terminal, the innermost last


def raise_on_closed_stdout() -> None:
    """Let consoles of stdout raise BrokenPipeError if its reader closes the pipe. Rich would exit with code 1."""
    leave = Console.on_broken_pipe

    def on_broken_pipe(self: Console) -> None:
        if self.file is not sys.stdout:
            leave(self)
        raise BrokenPipeError

    Console.on_broken_pipe = on_broken_pipe  # type: ignore[method-assign]


def discard_stdout() -> None:
    """Discard further output after the reader of stdout has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def delayed_interrupt() -> Iterator[None]:
    """Delay the first Ctrl-C until the end of the block, so that lines are written completely.

    A second Ctrl-C interrupts at once.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []

    def handle(number: int, _frame: Any) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if received:
        raise KeyboardInterrupt


def out() -> Console:
    """Return a console for the current sys.stdout."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OFF_TERMINAL, highlight=False)


def err() -> Console:
    """Return a console for the current sys.stderr; while a progress bar is shown, its console prints above the bar."""
    if _open_bars:
        return _open_bars[-1]
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else WIDTH_OFF_TERMINAL, highlight=False)


def error(text: str) -> None:
    """Print an error on stderr."""
    err().print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def note(text: str) -> None:
    """Print a message on stderr."""
    err().print(escape(text), soft_wrap=True)


def warn(text: str) -> None:
    """Print a warning on stderr."""
    err().print(f"[bold yellow]warning:[/] {escape(text)}", soft_wrap=True)


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print the warnings of m3gal itself as messages, each once; those of libraries are shown as Python does."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def print_own(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
            if category.__module__.startswith("m3gal_cli"):
                warn(str(message))
            else:
                show(message, category, *where, **more)

        warnings.showwarning = print_own
        yield


def print_json(value: Any) -> None:
    """Print a value as JSON on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show a progress bar on stderr if it is a terminal; messages that are printed meanwhile appear above it."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}"),
    )
    console = err()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        _open_bars.append(console)
        try:
            yield bar
        finally:
            _open_bars.remove(console)


def duration(seconds: float) -> str:
    """Return seconds as 0:00:59, 3:05:00 or 2 d 03:05."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}"


def metrics_table(
    title: str,
    metrics: Mapping[str, Mapping[str, float | None]],
    intervals: dict[str, Any] | None = None,
    row_header: str = "score",
) -> Table:
    """Return a table with a row per score and a column per metric; the 95% interval stands below recall@1."""
    table = Table(title=title, title_justify="left")
    table.add_column(row_header, style="bold", no_wrap=True)
    names = [n for n in next(iter(metrics.values())) if n not in JSON_ONLY_METRICS]
    for name in names:
        table.add_column(_short_name(name), justify="right", no_wrap=True)
    for kind, row in metrics.items():
        cells = [format_metric(n, row.get(n)) for n in names]
        interval = (intervals or {}).get(kind, {}).get("recall@1")
        if interval is not None and "recall@1" in names:
            cells[names.index("recall@1")] += f"\n[dim]{interval[0]:.2f}-{interval[1]:.2f}[/]"
        table.add_row(kind, *cells)
    return table


def _short_name(name: str) -> str:
    short = {
        "median_error_m": "median m",
        "within_100m": "<=100 m",
        "within_1km": "<=1 km",
        "n_queries": "queries",
        "unchanged_recall@1": "unchanged R@1",
    }
    return short.get(name, name.replace("recall@", "R@").replace("mrr@", "MRR@").replace("ndcg@", "NDCG@"))


def format_metric(name: str, value: float | None) -> str:
    """Return a metric as text: metres and counts without decimals, others with three; a dash if undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if name.endswith("_m") or name == "n_queries" else f"{value:.3f}"


def facts_table(title: str, facts: list[tuple[str, str]]) -> Table:
    """Return a table of names and values."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(escape(str(name)), escape(str(value)))
    return table


def print_summary(summary: Any, title: str, facts: list[tuple[str, str]], as_json: bool) -> None:
    """Print the notes of a summary, and the summary as a table or as JSON."""
    for line in summary.notes:
        note(line)
    if as_json:
        print_json(summary.to_json())
    else:
        out().print(facts_table(title, facts))


def frame_table(title: str, frame: pd.DataFrame) -> Table:
    """Return a small data frame as a table."""
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        table.add_column(escape(str(name)), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(escape("" if _missing(v) else f"{v:.6g}" if isinstance(v, float) else str(v)) for v in row))
    return table


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
