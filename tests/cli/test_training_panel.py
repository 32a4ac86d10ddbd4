"""Display of a training: the panel at every width, a real terminal, and plain lines."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from m3gal_cli.cli.training_panel import LineListener, PanelListener, training_listener
from tests.helpers.cli import ENVIRONMENT, steps, validations
from tests.helpers.sample_town import STEPS, write_town

BARE = {"kind": "step", "epoch": 0, "text_loss": 9.25, "location_loss": 8.125, "fused_loss": 17.375}
BARE |= {"lr": 5e-4, "location_lr": 1e-3, "samples_per_second": 1234.6}
MORE = {"queue_accuracy": 0.451, "tokens_per_second": 45678.9, "device_memory_mb": 12345.6, "grad_norm": 1.234}
MORE |= {"spread": 0.912, "alignment": 0.456, "uniformity": -3.25, "queue_age": 128.0}


def validation(step: int, epoch: int, value: float) -> dict[str, Any]:
    row = {"recall@1": value, "recall@3": 0.5, "recall@5": 0.625, "mrr@5": 0.55, "median_error_m": 1234.4}
    metrics = {kind: dict(row) for kind in ("text", "location", "fused")}
    return {"kind": "validation", "step": step, "epoch": epoch, "n_queries": 12, "seconds": 0.1, "metrics": metrics}


def panel_after(count: int, width: int, height: int = 40, **row: Any) -> tuple[PanelListener, list[str]]:
    """Return a panel after ``count`` of ten epochs of 20 steps, and its lines."""
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


@pytest.mark.parametrize("width", [200, 100, 80, 72, 50, 40])
@pytest.mark.parametrize("count", [0, 9])
def test_the_panel_fits_every_width(width: int, count: int) -> None:
    _, lines = panel_after(count, width, **MORE)
    assert {len(line) for line in lines} == {width}
    shown = "\n".join(lines)
    assert "pretrain [b]town" in shown, "a run name is not interpreted as markup"
    assert "…" not in shown
    rows = [line for line in lines if re.match(rf"│\s+\d+\s+[1-{max(count, 1)}] ", line)]
    assert len(rows) == count, "one row per validation"
    assert sum(line.count("best") for line in rows) == (count > 0)


def test_the_panel_shows_progress_and_the_logged_figures() -> None:
    _, lines = panel_after(2, 100, **MORE)
    shown = " ".join(" ".join(lines).split())
    for part in ("epoch 3 of 10", "step 3 of 20", "step 43 of 200", "left", "fused loss 17.3750", "accuracy 45.1%"):
        assert part in shown
    for part in ("rows/s 1,235", "tokens/s 45,679", "memory 12,346 MB", "spread 0.912", "queue age 128 steps"):
        assert part in shown
    assert "0.020 0.625 0.550 1,234 best" in shown
    without = "\n".join(panel_after(1, 80)[1])
    assert "rows/s" in without
    assert not any(name in without for name in ("accuracy", "tokens/s", "memory", "spread", "None", "nan"))


def test_a_low_terminal_shows_the_last_validations_and_the_best() -> None:
    panel, lines = panel_after(9, 80, height=21, **MORE)
    assert len(lines) <= 21
    numbers = [int(m.group(1)) for line in lines if (m := re.match(r"│\s+(\d+)\s+\d ", line))]
    assert numbers[0] == 80, "the best one stays visible"
    assert numbers[1:] == [180 - 20 * i for i in reversed(range(len(numbers) - 1))]
    assert f"and {9 - len(numbers)} more" in "\n".join(lines)
    assert panel.best == 3


def test_warnings_are_printed_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    text = io.StringIO()
    panel = PanelListener("x", Console(file=text, force_terminal=True, width=80, color_system=None))
    panel.warning({"kind": "warning", "step": 30, "text": "the [bold]encoder[/] has collapsed"})
    assert "warning: step 30: the [bold]encoder[/] has collapsed" in text.getvalue()
    assert "1 warning" in "".join(str(s) for s in [panel.panel().subtitle])  # type: ignore[union-attr]
    LineListener().warning({"kind": "warning", "text": "no [report]"})
    assert capsys.readouterr().err == "warning: no [report]\n"


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
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


def on_a_terminal(command: list[str], width: int) -> tuple[str, str]:
    """Return what a process prints on a terminal of this width, and its stdout, which is a pipe."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {k: v for k, v in ENVIRONMENT.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    environment["TERM"] = "xterm"
    printed = b""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=follower) as program:
        os.close(follower)
        with suppress(OSError):  # the program closes the terminal
            while part := os.read(leader, 65536):
                printed += part
        out, _ = program.communicate(timeout=60)
    os.close(leader)
    assert program.returncode == 0, printed.decode()
    return printed.decode(), out.decode()


@pytest.mark.integration
def test_on_a_real_terminal_the_panel_leaves_the_final_figures(profile: Path) -> None:
    given = ("--config", profile, "--runs-dir", profile.parent / "runs", "--run-name", "seen")
    command = [sys.executable, "-m", "m3gal_cli", "pretrain", *map(str, given)]
    shown, out = on_a_terminal(command, 80)
    run = profile.parent / "runs" / "seen"
    assert out == f"{run}\n"
    assert "╭─ pretrain seen " in shown
    assert "epoch 1 of 3" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") > 0, "the cursor is shown again"
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
