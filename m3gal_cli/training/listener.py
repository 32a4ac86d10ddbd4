"""The interface through which a training reports its progress. It imports no torch, for the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Listener:
    """A listener that ignores every event; subclasses override the methods of the events that they show."""

    def section(self, title: str) -> None:
        """Handle the start of a part of a model soup, e.g. ``training 2 of 3``."""

    def begin(self, total_steps: int, done: int, steps_per_epoch: int) -> None:
        """Handle the start of the trainer, with ``done`` steps already taken."""

    def advance(self, done: int) -> None:
        """Handle the end of a step; ``done`` counts all steps of the run."""

    def step(self, row: dict[str, Any]) -> None:
        """Handle a logged row of kind ``step``."""

    def validation(self, row: dict[str, Any]) -> None:
        """Handle a logged row of kind ``validation``."""

    def warning(self, row: dict[str, Any]) -> None:
        """Handle a warning: ``text``, and ``step`` if it belongs to a step."""

    def saved(self, path: Path, best: bool) -> None:
        """Handle a saved checkpoint; ``best`` says whether it is the best one so far."""

    def end(self) -> None:
        """Handle the end of the trainer. Messages may follow."""

    def message(self, text: str) -> None:
        """Show a message to the user."""
