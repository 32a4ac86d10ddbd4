"""The one error a user is meant to read; every room raises it and only ``cli`` prints it (exit code 2)."""

from __future__ import annotations

from os import PathLike


class InputError(Exception):
    """Wrong usage, configuration or input.

    Args:
        what: What is wrong, with the offending value.
        where: Where it was found: ``file``, ``file:line`` or ``file:line: column``.
        hint: What to do next.
    """

    def __init__(self, what: str, *, where: str | PathLike[str] | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint
        super().__init__(self.render())

    def render(self) -> str:
        """The error in one or two lines: ``where: what`` and, below, what to do next."""
        first = self.what if self.where is None else f"{self.where}: {self.what}"
        return first if self.hint is None else f"{first}\n{self.hint}"
