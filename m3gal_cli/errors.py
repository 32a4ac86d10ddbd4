"""The error for wrong usage, configuration or input; only ``cli`` prints it (exit code 2)."""

from __future__ import annotations

from os import PathLike


class InputError(Exception):
    """Wrong usage, configuration or input.

    Args:
        what: The error, with the wrong value.
        where: Its position: ``file``, ``file:line`` or ``file:line: column``.
        hint: The next step for the user.
    """

    def __init__(self, what: str, *, where: str | PathLike[str] | None = None, hint: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.hint = hint
        super().__init__(self.render())

    def render(self) -> str:
        """Return the error in one or two lines: ``where: what``, then the hint."""
        first = self.what if self.where is None else f"{self.where}: {self.what}"
        return first if self.hint is None else f"{first}\n{self.hint}"
