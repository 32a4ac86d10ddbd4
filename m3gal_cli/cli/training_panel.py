"""Display of a training: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from m3gal_cli.cli.console import duration, err, format_metric, metrics_table, note
from m3gal_cli.training.listener import Listener

LOSSES = ("text", "location", "fused")  # a logged row has some of them
LINE_METRICS = ("recall@1", "recall@3", "recall@5", "mrr@5", "median_error_m")
CELL = 24  # width of a figure; three fit into 80 columns
BAR_WIDTH = 52  # minimum inner width of the panel for progress bars
OTHER_LINES = 17  # maximum number of lines besides the rows of validations

# Key of a logged row -> label and format. Absent keys are not shown.
FIGURES = {
    "fused_loss": ("fused loss", "{:.4f}"),
    "text_loss": ("text loss", "{:.4f}"),
    "location_loss": ("location loss", "{:.4f}"),
    "queue_accuracy": ("accuracy", "{:.1%}"),
    "lr": ("rate", "{:.2g}"),
    "location_lr": ("location rate", "{:.2g}"),
    "samples_per_second": ("rows/s", "{:,.0f}"),
    "tokens_per_second": ("tokens/s", "{:,.0f}"),
    "device_memory_mb": ("memory", "{:,.0f} MB"),
    "grad_norm": ("gradient norm", "{:.3g}"),
    "spread": ("spread", "{:.3f}"),
    "alignment": ("alignment", "{:.3f}"),
    "uniformity": ("uniformity", "{:.3f}"),
    "queue_age": ("queue age", "{:,.0f} steps"),
}
# columns of a validation: kind of score, metric, header
HEADERS = (("recall@1", "R@1"), ("recall@5", "R@5"), ("mrr@5", "MRR@5"))
SELECTION = "fused"  # kind of score that selects the best checkpoint
FULL = [(kind, metric, header) for kind in LOSSES for metric, header in HEADERS]
WIDE = [*FULL, (SELECTION, "median_error_m", "median m")]
SHORT = [column for column in FULL if column[0] == SELECTION or column[1] == "recall@1"]
NARROW = [(SELECTION, "recall@1", "R@1")]


@contextmanager
def training_listener(title: str) -> Iterator[Listener]:
    """Return the listener that suits stderr. The panel appears when the training begins."""
    console = err()
    if not console.is_terminal or console.is_dumb_terminal:
        yield LineListener()
        return
    panel = PanelListener(title, console)
    try:
        yield panel
    finally:
        panel.end()


def print_warning(row: dict[str, Any], console: Console) -> None:
    """Print a logged warning with its step."""
    at = f"step {row['step']}: " if "step" in row else ""
    text = f"[bold yellow]warning:[/] {at}{escape(str(row['text']))}"
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)  # one line in a file


class LineListener(Listener):
    """Prints a line per event, for files and pipes."""

    total = 0

    def section(self, title: str) -> None:
        """Print the title of the next training."""
        note(title)

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        """Keep the number of steps; print where a resumed run continues."""
        self.total = total_steps
        if 0 < done < total_steps:
            note(f"resumed at step {done}")

    def step(self, row: dict[str, Any]) -> None:
        """Print losses, learning rate and speed."""
        losses = _losses(row)
        line = f"step {row['step']}/{self.total} epoch {row['epoch']} loss: {losses}"
        if "queue_accuracy" in row:
            line += f"  accuracy {row['queue_accuracy']:.1%}"
        line += f"  lr {row['lr']:.2g}  {row['samples_per_second']:.0f} rows/s"
        if "tokens_per_second" in row:
            line += f"  {row['tokens_per_second']:.0f} tokens/s"
        note(line)

    def validation(self, row: dict[str, Any]) -> None:
        """Print a table of metrics."""
        shown = {k: {n: v for n, v in m.items() if n in LINE_METRICS} for k, m in row["metrics"].items()}
        title = f"validation at step {row['step']} ({row['n_queries']} queries)"
        err().print(metrics_table(title, shown))

    def warning(self, row: dict[str, Any]) -> None:
        """Print a warning."""
        print_warning(row, err())

    def message(self, text: str) -> None:
        """Print a message."""
        note(text)

    def saved(self, path: Path, best: bool) -> None:
        """Print the path of a checkpoint."""
        note(f"saved {path}{' (best)' if best else ''}")


def _losses(row: dict[str, Any]) -> str:
    return " ".join(f"{name} {row[f'{name}_loss']:.4f}" for name in LOSSES if f"{name}_loss" in row)


class PanelListener(Listener):
    """Shows a live panel: progress, time left, losses, speed, and a table with a row per validation."""

    def __init__(self, title: str, console: Console) -> None:
        self.title, self.console = title, console
        self.command = title
        self.live: Live | None = None
        self.total = self.done = 0
        self.per_epoch = 1
        self.row: dict[str, Any] = {}
        self.validations: list[dict[str, Any]] = []
        self.best = -1  # index of the best validation
        self.warnings = 0
        self.began, self.first = time.monotonic(), 0  # time and step of the start

    def section(self, title: str) -> None:
        """Start a panel for the next training; the figures of the previous one stay on the screen."""
        self.end()
        self.title = f"{self.command}, {title}"
        self.row, self.validations, self.best = {}, [], -1

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        """Show the panel."""
        self.total, self.done, self.per_epoch = total_steps, done, max(steps_per_epoch, 1)
        self.began, self.first = time.monotonic(), done
        if 0 < done < total_steps:
            self.console.print(f"resumed at step {done}", highlight=False)
        # stdout is for data, so the panel must not capture it.
        live = Live(get_renderable=self.panel, console=self.console, transient=True, redirect_stdout=False)
        live.start(refresh=True)
        self.live = live

    def advance(self, done: int) -> None:
        """Count a step."""
        self.done = done

    def step(self, row: dict[str, Any]) -> None:
        """Show the figures of a logged step."""
        self.row = row

    def validation(self, row: dict[str, Any]) -> None:
        """Add a row to the table."""
        self.validations.append(row)

    def warning(self, row: dict[str, Any]) -> None:
        """Print a warning above the panel and count it."""
        self.warnings += 1
        print_warning(row, self.console)

    def message(self, text: str) -> None:
        """Print a message, above the panel if it is shown."""
        self.console.print(escape(text), highlight=False)

    def saved(self, path: Path, best: bool) -> None:
        """Mark the validation of the best checkpoint."""
        if best and self.validations:
            self.best = len(self.validations) - 1

    def end(self) -> None:
        """Remove the panel and print the figures of the run."""
        if self.live is None:
            return
        self.live.stop()
        self.live = None
        took = duration(time.monotonic() - self.began)
        line = f"{self.title}: step {self.done} of {self.total} in {took}"
        if self.row:
            line += f"  loss: {_losses(self.row)}"
        self.console.print(escape(line), highlight=False)
        if self.validations:
            self.console.print(validations_table(self.validations, self.best, self.console.width))

    def panel(self) -> RenderableType:
        """Return the current panel, with as many rows of validations as the terminal has room for."""
        width = self.console.width - 4
        parts: list[RenderableType] = [self._bars(width >= BAR_WIDTH), self._figures(width)]
        if self.validations:
            most = max(self.console.height - OTHER_LINES, 3)
            parts.append(Text())
            parts.append(validations_table(self.validations, self.best, width, most))
        words = f"{self.warnings} warning{'s' * (self.warnings != 1)}" if self.warnings else None
        title = Text(self.title, no_wrap=True, overflow="ellipsis")
        return Panel(Group(*parts), title=title, title_align="left", subtitle=words, subtitle_align="left")

    def _bars(self, drawn: bool) -> Table:
        epochs = max(math.ceil(self.total / self.per_epoch), 1)
        epoch = min(self.done // self.per_epoch, epochs - 1)
        first = epoch * self.per_epoch
        size = min(self.per_epoch, self.total - first)
        table = Table.grid(padding=(0, 1), expand=drawn)
        table.add_column(no_wrap=True)
        if drawn:
            table.add_column(ratio=1)
        for _ in range(2):
            table.add_column(justify="right", no_wrap=True)
        label = f"epoch {epoch + 1} of {epochs}" if drawn else f"{epoch + 1}/{epochs}"
        seconds_per_step = (time.monotonic() - self.began) / max(self.done - self.first, 1)  # with validations
        for name, done, total in ((label, self.done - first, size), ("run", self.done, self.total)):
            text = f"{duration((total - done) * seconds_per_step)} left" if self.done > self.first else ""
            bar = [ProgressBar(total=max(total, 1), completed=done)] if drawn else []
            table.add_row(name, *bar, f"step {done:,} of {total:,}" if drawn else f"{done:,}/{total:,}", text)
        return table

    def _figures(self, width: int) -> RenderableType:
        cells = []
        for key, (name, form) in FIGURES.items():
            value = self.row.get(key)
            if isinstance(value, int | float):
                text = form.format(value)
                cells.append(Text.assemble((name, "dim"), " " * (CELL - len(name) - len(text)), (text, "bold")))
        if not cells:
            return Text("waiting for the first logged step", style="dim")
        if width < CELL:
            return Group(*cells)
        return Columns(cells, width=CELL, padding=(0, 2 if width >= 3 * CELL + 4 else 1), column_first=False)


def validations_table(rows: Sequence[dict[str, Any]], best: int, width: int, most: int | None = None) -> RenderableType:
    """Return a table with a row per validation, and as many columns as the width has room for.

    ``best`` is the index of the best row, or -1. With ``most``, only the best row and the last ones are shown.
    """
    columns = WIDE if width >= 84 else FULL if width >= 74 else SHORT if width >= 54 else NARROW
    kinds = rows[-1]["metrics"]
    columns = [c for c in columns if c[1] in kinds.get(c[0], {})]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("\nstep", justify="right", no_wrap=True)
    table.add_column("\nepoch", justify="right", no_wrap=True)
    before = None
    for kind, _, header in columns:
        above = kind if kind != before else ""
        table.add_column(f"{above}\n{header}", justify="right", no_wrap=True)
        before = kind
    table.add_column("\n", no_wrap=True)
    shown = list(range(len(rows)))
    if most is not None and len(rows) > most:
        shown = shown[-most:]
        if 0 <= best < shown[0]:
            shown = [best, *shown[1:]]
    for i in shown:
        row = rows[i]
        cells = [format_metric(metric, row["metrics"].get(kind, {}).get(metric)) for kind, metric, _ in columns]
        last = "best" if i == best else ""
        table.add_row(f"{row['step']:,}", str(row["epoch"]), *cells, last, style="bold" if i == best else None)
    left_out = len(rows) - len(shown)
    return Group(table, Text(f"and {left_out} more", style="dim")) if left_out else table
