"""Messages, progress and interruptions of the console."""

from __future__ import annotations

import io
import os
import re
import signal
import sys

import pytest

from m3gal_cli.cli.console import delayed_interrupt, note
from m3gal_cli.cli.progress import RowProgress


def test_progress_is_a_line_every_ten_seconds_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([100.0, 104.0, 111.0, 112.0, 121.0])
    with RowProgress("encoding POIs", clock=lambda: next(clock)) as rows:
        for count in (10, 50, 120, 130, 220):
            rows(count, 430)
    assert capsys.readouterr().err == (
        "encoding POIs: 120 of 430, 10 per second, 0:00:31 left\n"
        "encoding POIs: 220 of 430, 10 per second, 0:00:21 left\n"
    )


def test_a_message_stands_on_a_line_of_its_own_above_an_open_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    for name, value in (("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    with RowProgress("encoding POIs") as rows:
        rows(1, 10)
        note("index town: encoding 10 POIs")
        rows(2, 10)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).replace("\r", "\n")
    assert "index town: encoding 10 POIs" in shown.splitlines()
    assert "encoding POIs ━" in shown


def test_only_the_first_interruption_is_delayed() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
    seen = []
    with pytest.raises(KeyboardInterrupt), delayed_interrupt():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("goes on")
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("not reached")
    assert seen == ["goes on"]
    with pytest.raises(KeyboardInterrupt), delayed_interrupt():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        seen.append("whole")
    assert seen == ["goes on", "whole"]
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler
