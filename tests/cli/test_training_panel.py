"""What a person sees of a training: the panel at every width, a real terminal, and plain lines off it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from m3gal_cli.cli import training_panel
from m3gal_cli.cli.training_panel import LineListener, Pace, PanelListener, duration, training_listener
from tests.helpers.cli import m3gal, steps, validations
from tests.helpers.sample_town import STEPS, write_town

ROOT = Path(__file__).resolve().parents[2]
BARE = {"kind": "step", "epoch": 0, "text_loss": 9.25, "location_loss": 8.125, "fused_loss": 17.375}
BARE |= {"lr": 5e-4, "location_lr": 1e-3, "samples_per_second": 1234.6}
MORE = {"queue_accuracy": 0.451, "tokens_per_second": 45678.9, "device_memory_mb": 12345.6, "grad_norm": 1.234}
MORE |= {"spread": 0.912, "alignment": 0.456, "uniformity": -3.25, "queue_age": 128.0}


def validation(step: int, epoch: int, value: float) -> dict[str, Any]:
    row = {"recall@1": value, "recall@3": 0.5, "recall@5": 0.625, "mrr@5": 0.55, "median_error_m": 1234.4}
    metrics = {kind: dict(row) for kind in ("text", "location", "fused")}
    return {"kind": "validation", "step": step, "epoch": epoch, "n_queries": 12, "seconds": 0.1, "metrics": metrics}


def panel_after(count: int, width: int, height: int = 40, **row: Any) -> tuple[PanelListener, list[str]]:
    """A panel that has seen so many epochs of 20 steps, of ten, and its lines."""
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=width, height=height, color_system=None)
    panel = PanelListener("pretrain [b]town[/b]", console)
    panel.total, panel.per_epoch = 200, 20
    for epoch in range(1, count + 1):
        panel.advance(20 * epoch)
        panel.step(BARE | {"step": 20 * epoch} | row)
        panel.validation(validation(20 * epoch, epoch, epoch / 100))
        panel.saved("x", best=epoch <= 4)
    panel.advance(20 * count + 3)
    console.print(panel.panel())
    return panel, text.getvalue().splitlines()


@pytest.mark.parametrize("width", [200, 120, 100, 80, 72, 60, 50, 40])
@pytest.mark.parametrize("count", [0, 1, 3, 9])
def test_the_panel_fits_every_width(width: int, count: int) -> None:
    _, lines = panel_after(count, width, **MORE)
    assert {len(line) for line in lines} == {width}
    shown = "\n".join(lines)
    assert "pretrain [b]town" in shown, "a name is no markup"
    assert "…" not in shown
    rows = [line for line in lines if re.match(rf"│\s+\d+\s+[1-{max(count, 1)}] ", line)]
    assert len(rows) == count, "one table with a row a validation"
    assert sum(line.count("best") for line in rows) == (count > 0)


def test_what_the_panel_says() -> None:
    _, lines = panel_after(2, 100, **MORE)
    shown = " ".join(" ".join(lines).split())
    for part in ("epoch 3 of 10", "step 3 of 20", "step 43 of 200", "left", "fused loss 17.3750", "accuracy 45.1%"):
        assert part in shown
    for part in ("rows/s 1,235", "tokens/s 45,679", "memory 12,346 MB", "spread 0.912", "queue age 128 steps"):
        assert part in shown
    assert "0.020 0.625 0.550 1,234 best" in shown


def test_what_a_row_lacks_is_not_shown() -> None:
    _, lines = panel_after(1, 80)
    shown = "\n".join(lines)
    assert "rows/s" in shown
    assert not any(name in shown for name in ("accuracy", "tokens/s", "memory", "spread", "None", "nan"))


def test_a_low_terminal_shows_the_last_validations_and_the_best() -> None:
    panel, lines = panel_after(9, 80, height=21, **MORE)
    assert len(lines) <= 21
    numbers = [int(m.group(1)) for line in lines if (m := re.match(r"│\s+(\d+)\s+\d ", line))]
    assert numbers[0] == 80, "the best one stays in sight"
    assert numbers[1:] == [180 - 20 * i for i in reversed(range(len(numbers) - 1))]
    assert f"and {9 - len(numbers)} more" in "\n".join(lines)
    assert panel.best == 3


def test_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause counts for the run, a share a step, and not for the epoch; it falls while a step is under way."""
    now = [0.0]
    monkeypatch.setattr(training_panel.time, "monotonic", lambda: now[0])
    pace = Pace(10)
    assert pace.left(5) is None
    for done in (11, 12):
        now[0] += 2.0
        pace.step(done)
    assert pace.left(5) == 10.0
    now[0] += 6.0
    pace.pause()
    assert pace.left(5) == 10.0
    assert pace.left(5, with_pauses=True) == 5 * (2.0 + 3.0)
    now[0] += 0.5
    assert pace.left(5) == 9.5
    now[0] += 100
    assert pace.left(5) == 0.0


def test_durations() -> None:
    assert [duration(s) for s in (0, 59.6, 3661, 200_000)] == ["0:00:00", "0:01:00", "1:01:01", "2 d 07:33"]


def test_warnings_are_said_at_once_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    text = io.StringIO()
    panel = PanelListener("x", Console(file=text, force_terminal=True, width=80, color_system=None))
    panel.warning({"kind": "warning", "step": 30, "text": "the [bold]encoder[/] has collapsed"})
    assert "warning: step 30: the [bold]encoder[/] has collapsed" in text.getvalue()
    assert "1 warning" in "".join(str(s) for s in [panel.panel().subtitle])  # type: ignore[union-attr]
    LineListener().warning({"kind": "warning", "text": "no [report]"})
    assert capsys.readouterr().err == "warning: no [report]\n"


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with training_listener("x") as lines:
        assert isinstance(lines, LineListener)
        lines.begin(40, 0, 4)
        lines.step(BARE | {"step": 2})
        lines.step(BARE | {"step": 3} | MORE)
    bare = "epoch 0 loss: text 9.2500 location 8.1250 fused 17.3750"
    assert capsys.readouterr().err.splitlines() == [
        f"step 2/40 {bare}  lr 0.0005  1235 rows/s",
        f"step 3/40 {bare}  accuracy 45.1%  lr 0.0005  1235 rows/s  45679 tokens/s",
    ]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_town(tmp_path_factory.mktemp("panel"))


def on_a_terminal(command: list[str], width: int, **environment: str) -> Iterator[bytes]:
    """What a program writes to a terminal of this width, its stdout being a pipe; then that pipe's bytes."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    own = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    own |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "TERM": "xterm"}
    with subprocess.Popen(command, env=own | environment, stdout=subprocess.PIPE, stderr=follower) as program:
        os.close(follower)
        deadline, told = time.monotonic() + 120, b""
        while time.monotonic() < deadline:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the program has closed the terminal
                break
            if not part:
                break
            told += part
        yield told
        assert program.stdout is not None
        yield program.stdout.read()
        assert program.wait(timeout=60) == 0, told.decode()
    os.close(leader)


def test_on_a_real_terminal(profile: Path) -> None:
    """A panel comes and goes; the run's path alone is on stdout; the figures that stay are the run's."""
    given = ("--config", profile, "--runs-dir", profile.parent / "runs", "--output-name", "seen")
    command = [sys.executable, "-m", "m3gal_cli", "pretrain", *map(str, given)]
    told, out = on_a_terminal(command, 80)
    run = profile.parent / "runs" / "seen"
    assert out.decode() == f"{run}\n"
    shown = told.decode()
    assert "╭─ pretrain seen " in shown
    assert "epoch 1 of 3" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0, "the cursor comes back"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "\n")
    assert max(len(line) for line in plain.splitlines()) <= 80
    rest = plain[plain.rindex(f"pretrain seen: step {3 * STEPS} of {3 * STEPS} in 0:00:") :]
    assert f"fused {steps(run)[-1]['fused_loss']:.4f}" in " ".join(rest.split())
    found = validations(run)
    rows = [line.split() for line in rest.splitlines() if re.match(r"\s*\d+\s+\d ", line)]
    assert [int(row[0]) for row in rows] == [row["step"] for row in found]
    for row, logged in zip(rows, found, strict=True):
        assert row[8:11] == [f"{logged['metrics']['fused'][n]:.3f}" for n in ("recall@1", "recall@5", "mrr@5")]
    assert sum(row[-1] == "best" for row in rows) == 1


def test_a_dumb_terminal_gets_lines(profile: Path) -> None:
    given = ("--config", profile, "--runs-dir", profile.parent / "runs", "--output-name", "dumb", "--max-steps", 2)
    command = [sys.executable, "-m", "m3gal_cli", "pretrain", *map(str, given)]
    told, _ = on_a_terminal(command, 80, TERM="dumb")
    assert "step 2/2 epoch 0 loss: " in " ".join(told.decode().split())
    assert "╭─ pretrain" not in told.decode()


def test_the_last_line_off_a_terminal_is_the_logged_one(profile: Path) -> None:
    given = ("--config", profile, "--runs-dir", profile.parent / "runs", "--output-name", "lines", "--max-steps", 3)
    answer = m3gal("pretrain", *given)
    logged = json.loads((answer.run / "metrics.jsonl").read_text().splitlines()[-2])
    assert f"step 3/3 epoch 0 loss: text {logged['text_loss']:.4f}" in answer.err
