"""stdout carries data, stderr talk and progress; bars vanish off a terminal."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd
    from rich.progress import Progress

WIDTH_OFF_TERMINAL = 120
LEFT_TO_JSON = ("mrr@1", "mrr@3")  # the first is recall@1 again; a table of 120 columns has no room for both


class _Stdout(Console):
    """A reader that has seen enough is no error: the group of commands ends well, where Rich would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def pass_on_closed_pipes() -> None:
    """Have Rich's own consoles of stdout, which print the help, raise BrokenPipeError where they would exit with 1."""
    leave = Console.on_broken_pipe

    def on_broken_pipe(self: Console) -> None:
        if self.file is not sys.stdout:
            leave(self)
        raise BrokenPipeError

    Console.on_broken_pipe = on_broken_pipe  # type: ignore[method-assign]


def forget_stdout() -> None:
    """The reader of stdout is gone: what is left to write goes nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def undisturbed() -> Iterator[None]:
    """Hold the first Ctrl-C back until the block is done, so that it leaves whole lines; the second one interrupts."""
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []

    def hold(number: int, _frame: Any) -> None:
        if held:
            raise KeyboardInterrupt
        held.append(number)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def out() -> Console:
    """The console of stdout; made anew so that whoever replaces sys.stdout is heard."""
    return _Stdout(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH_OFF_TERMINAL, highlight=False)


def err() -> Console:
    """The console of stderr."""
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else WIDTH_OFF_TERMINAL, highlight=False)


def error(text: str) -> None:
    """Say on stderr what went wrong."""
    err().print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def note(text: str) -> None:
    """Say something on stderr."""
    err().print(escape(text), soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A progress display on stderr, hidden off a terminal."""
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
        yield bar


def metrics_table(
    title: str, metrics: dict[str, dict[str, float]], intervals: dict[str, Any] | None = None, of: str = "score"
) -> Table:
    """A row a kind of score (``of``), a column a metric; recall@1 with its 95% interval under it where known."""
    table = Table(title=title, title_justify="left")
    table.add_column(of, style="bold", no_wrap=True)
    names = [n for n in next(iter(metrics.values())) if n not in LEFT_TO_JSON]
    for name in names:
        table.add_column(_short(name), justify="right", no_wrap=True)
    for kind, row in metrics.items():
        cells = [_number(n, row[n]) for n in names]
        known = (intervals or {}).get(kind, {})
        for i, name in enumerate(names):
            if name in known and name in ("recall@1",):
                low, high = known[name]
                cells[i] += f"\n[dim]{low:.2f}-{high:.2f}[/]"
        table.add_row(kind, *cells)
    return table


def _short(name: str) -> str:
    short = {"median_error_m": "median m", "within_100m": "<=100 m", "within_1km": "<=1 km", "n_queries": "queries"}
    return short.get(name, name.replace("recall@", "R@").replace("mrr@", "MRR@").replace("ndcg@", "NDCG@"))


def _number(name: str, value: float) -> str:
    return f"{value:,.0f}" if name.endswith("_m") or name == "n_queries" else f"{value:.3f}"


def facts_table(title: str, facts: list[tuple[str, str]]) -> Table:
    """Names and values."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(escape(str(name)), escape(str(value)))
    return table


def frame_table(title: str, frame: pd.DataFrame) -> Table:
    """A small data frame."""
    table = Table(title=title, title_justify="left")
    for name in frame.columns:
        table.add_column(escape(str(name)), overflow="fold")
    for row in frame.itertuples(index=False):
        table.add_row(*(escape("" if _missing(v) else f"{v:.6g}" if isinstance(v, float) else str(v)) for v in row))
    return table


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
