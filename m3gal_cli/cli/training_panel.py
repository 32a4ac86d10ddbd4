"""What a person sees of a training: one live panel on a terminal, plain lines off it."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from m3gal_cli.cli.console import err, metrics_table, note

if TYPE_CHECKING:
    from m3gal_cli.training.trainer import Listener

LOSSES = ("text", "location", "fused")  # of each training those that it has
LINE_METRICS = ("recall@1", "recall@3", "recall@5", "mrr@5", "median_error_m")
STEPS_OF_PACE = 100  # the time left is told from so many steps
CELL = 24  # three cells of figures stand side by side in 80 columns
BAR_WIDTH = 52  # of the panel's inside, from which on there is room for bars
OTHER_LINES = 17  # of the panel at its fullest, beside the rows of validations

# key of a row -> name and format; a key that no row has is not shown
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
# columns of a validation: kind of score, metric, what stands above it
FULL = [(kind, metric, head) for kind in LOSSES for metric, head in (("recall@1", "R@1"), ("recall@5", "R@5"))]
FULL = [column for kind in LOSSES for column in (*(c for c in FULL if c[0] == kind), (kind, "mrr@5", "MRR@5"))]
CHOSEN = ("fused",)  # kinds that the best checkpoint is chosen by
SHORT = [("text", "recall@1", "R@1"), ("location", "recall@1", "R@1"), *(c for c in FULL if c[0] in CHOSEN)]
NARROW = [(kind, "recall@1", "R@1") for kind in CHOSEN]
METRES = [(kind, "median_error_m", "median m") for kind in CHOSEN]


@contextmanager
def training_listener(title: str) -> Iterator[Listener]:
    """The listener for where stderr goes. The panel appears when the training begins, and not in its helpers."""
    console = err()
    if not console.is_terminal or console.is_dumb_terminal:
        yield LineListener()
        return
    panel = PanelListener(title, console)
    try:
        yield panel
    finally:
        panel.end()


def warn(row: dict[str, Any], console: Console) -> None:
    """Say a warning of a training in words."""
    at = f"step {row['step']}: " if "step" in row else ""
    text = f"[bold yellow]warning:[/] {at}{escape(str(row['text']))}"
    console.print(text, highlight=False, soft_wrap=not console.is_terminal)  # one line in a file


class LineListener:
    """Plain lines, for files and pipes."""

    total = 0

    def part(self, name: str) -> None:
        note(name)

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        self.total = total_steps
        if 0 < done < total_steps:
            note(f"resumed at step {done}")

    def advance(self, done: int) -> None: ...

    def step(self, row: dict[str, Any]) -> None:
        losses = _losses(row)
        line = f"step {row['step']}/{self.total} epoch {row['epoch']} loss: {losses}"
        if "queue_accuracy" in row:
            line += f"  accuracy {row['queue_accuracy']:.1%}"
        line += f"  lr {row['lr']:.2g}  {row['samples_per_second']:.0f} rows/s"
        if "tokens_per_second" in row:
            line += f"  {row['tokens_per_second']:.0f} tokens/s"
        note(line)

    def validation(self, row: dict[str, Any]) -> None:
        shown = {k: {n: v for n, v in m.items() if n in LINE_METRICS} for k, m in row["metrics"].items()}
        err().print(metrics_table(_validation_title(row), shown))

    def warning(self, row: dict[str, Any]) -> None:
        warn(row, err())

    def saved(self, path: Any, best: bool) -> None:
        note(f"saved {path}{' (best)' if best else ''}")


def _losses(row: dict[str, Any]) -> str:
    return " ".join(f"{name} {row[f'{name}_loss']:.4f}" for name in LOSSES if f"{name}_loss" in row)


def _validation_title(row: dict[str, Any]) -> str:
    return f"validation at step {row['step']} ({row['n_queries']} queries)"


class Pace:
    """Seconds a step and seconds of pauses (validation, saving), as lately seen, and what they say of the time left."""

    def __init__(self, done: int) -> None:
        self.began = self.last = time.monotonic()
        self.first = self.done = done
        self.steps: deque[float] = deque(maxlen=STEPS_OF_PACE)
        self.paused = 0.0

    def step(self, done: int) -> None:
        now = time.monotonic()
        self.steps.append(now - self.last)
        self.last, self.done = now, done

    def pause(self) -> None:
        now = time.monotonic()
        self.paused, self.last = self.paused + now - self.last, now

    def left(self, steps: int, with_pauses: bool = False) -> float | None:
        """Seconds that so many more steps take; None before the first one. It falls while a step is under way."""
        if not self.steps:
            return None if steps else 0.0
        each = sum(self.steps) / len(self.steps)
        if with_pauses:
            each += self.paused / max(self.done - self.first, 1)
        return max(steps * each - (time.monotonic() - self.last), 0.0)


class PanelListener:
    """A live panel: how far, how well, how fast, how long yet, and a table with a row a validation."""

    def __init__(self, title: str, console: Console) -> None:
        self.title, self.console = title, console
        self.whole = title
        self.live: Live | None = None
        self.total = self.done = 0
        self.per_epoch = 1
        self.row: dict[str, Any] = {}
        self.validations: list[dict[str, Any]] = []
        self.best = -1  # its place in them
        self.warnings = 0
        self.pace = Pace(0)

    def part(self, name: str) -> None:
        """What follows is a training of its own; figures of the one before stay on the screen."""
        self.end()
        self.title = f"{self.whole}, {name}"
        self.row, self.validations, self.best = {}, [], -1

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        self.total, self.done, self.per_epoch = total_steps, done, max(steps_per_epoch, 1)
        self.pace = Pace(done)
        if 0 < done < total_steps:
            self.console.print(f"resumed at step {done}", highlight=False)
        # stdout is for data: what is printed there is not the panel's to take.
        live = Live(get_renderable=self.panel, console=self.console, transient=True, redirect_stdout=False)
        live.start(refresh=True)
        self.live = live

    def advance(self, done: int) -> None:
        self.done = done
        self.pace.step(done)

    def step(self, row: dict[str, Any]) -> None:
        self.row = row

    def validation(self, row: dict[str, Any]) -> None:
        self.validations.append(row)

    def warning(self, row: dict[str, Any]) -> None:
        self.warnings += 1
        warn(row, self.console)

    def saved(self, path: Any, best: bool) -> None:
        if best and self.validations:
            self.best = len(self.validations) - 1
        self.pace.pause()

    def end(self) -> None:
        """Take the panel away and leave the figures of the run standing."""
        if self.live is None:
            return
        self.live.stop()
        self.live = None
        took = duration(time.monotonic() - self.pace.began)
        line = f"{self.title}: step {self.done} of {self.total} in {took}"
        if self.row:
            line += f"  loss: {_losses(self.row)}"
        self.console.print(escape(line), highlight=False)
        if self.validations:
            self.console.print(validations_table(self.validations, self.best, self.console.width))

    def panel(self) -> RenderableType:
        """The panel as things stand; rows of validations that the terminal has no room for are left out."""
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
        name = f"epoch {epoch + 1} of {epochs}" if drawn else f"{epoch + 1}/{epochs}"
        rows = [(name, self.done - first, size, False), ("run", self.done, self.total, True)]
        for name, done, total, whole in rows:
            left = self.pace.left(total - done, with_pauses=whole)
            text = "" if left is None else f"{duration(left)} left"
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
            return Text("the first figures come with the first logged step", style="dim")
        if width < CELL:
            return Group(*cells)
        return Columns(cells, width=CELL, padding=(0, 2 if width >= 3 * CELL + 4 else 1), column_first=False)


def validations_table(rows: Sequence[dict[str, Any]], best: int, width: int, most: int | None = None) -> RenderableType:
    """A row a validation, the last ``most`` of them and the best one; as many columns as ``width`` has room for."""
    columns = [*FULL, *METRES] if width >= 84 else FULL if width >= 74 else SHORT if width >= 54 else NARROW
    kinds = rows[-1]["metrics"]
    columns = [c for c in columns if c[1] in kinds.get(c[0], {})]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("\nstep", justify="right", no_wrap=True)
    table.add_column("\nepoch", justify="right", no_wrap=True)
    before = None
    for kind, _, head in columns:
        above = kind if kind != before else ""
        table.add_column(f"{above}\n{head}", justify="right", no_wrap=True)
        before = kind
    table.add_column("\n", no_wrap=True)
    shown = list(range(len(rows)))
    if most is not None and len(rows) > most:
        shown = shown[-most:]
        if 0 <= best < shown[0]:
            shown = [best, *shown[1:]]
    for i in shown:
        row = rows[i]
        cells = [_cell(metric, row["metrics"].get(kind, {}).get(metric)) for kind, metric, _ in columns]
        last = "best" if i == best else ""
        table.add_row(f"{row['step']:,}", str(row["epoch"]), *cells, last, style="bold" if i == best else None)
    left_out = len(rows) - len(shown)
    return Group(table, Text(f"and {left_out} more", style="dim")) if left_out else table


def _cell(metric: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if metric.endswith("_m") else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Seconds as 0:00:59, 3:05:00 or 2 d 03:05."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours >= 48:
        return f"{hours // 24} d {hours % 24:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{whole % 60:02}"
