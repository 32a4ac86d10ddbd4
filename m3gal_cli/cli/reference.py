"""The reference of the command line as Markdown, generated from the commands: ``python -m m3gal_cli.cli.reference``."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from m3gal_cli.cli.options import option_names

HEAD = """# Command line

Data and results go to stdout, messages and progress to stderr. Add `--debug` anywhere to see tracebacks.
Exit codes: 0 done, 1 a check failed (`--fail-under`), 2 wrong usage, configuration or input, 130 interrupted after
saving. `m3gal --install-completion` installs the completion of commands and options for the current shell.
"""
VALUES = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}
ARGUMENTS, GENERAL = "Arguments", "Options"


def cli_reference() -> str:
    """Return the reference of all commands as Markdown, in the order of the help."""
    from m3gal_cli.cli.app import app

    return "\n".join([HEAD, *(_section(name, callback) for name, callback in commands(app))])


def commands(app: typer.Typer, prefix: str = "m3gal") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield the full name and the function of each command, those of subgroups last."""
    for command in app.registered_commands:
        assert command.callback is not None
        yield f"{prefix} {command.name}", command.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from commands(group.typer_instance, f"{prefix} {group.name}")


def _section(name: str, callback: Callable[..., Any]) -> str:
    """Return the section of a command: its description, arguments, and a table per panel of options."""
    usage, panels = [name, "[OPTIONS]"], dict[str, list[str]]()
    for parameter in inspect.signature(callback, eval_str=True).parameters.values():
        kind, info = get_args(parameter.annotation)
        if info.hidden:
            continue
        text = (info.help or "").replace("\\[", "[").replace("|", "\\|")
        if isinstance(info, ArgumentInfo):
            usage.append(parameter.name.upper())
            panels.setdefault(ARGUMENTS, []).append(f"| `{parameter.name.upper()}` | {text} |")
            continue
        names = ", ".join(f"`{name}`" for name in option_names(info))
        value = info.metavar or _value(kind)
        default = "" if parameter.default in (None, False) else f" Default: `{parameter.default}`."
        row = f"| {names}{f' {value}' if value else ''} | {text}{default} |"
        panels.setdefault(info.rich_help_panel or GENERAL, []).append(row)
    parts = [f"## {name}\n", inspect.cleandoc(callback.__doc__ or "") + "\n", f"```text\n{' '.join(usage)}\n```\n"]
    for panel, rows in panels.items():
        head = "argument" if panel == ARGUMENTS else "option"
        parts.append(f"**{panel}**\n\n| {head} | meaning |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _value(kind: Any) -> str:
    """Return the placeholder of a value; none for a switch."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(k for k in get_args(kind) if k is not type(None))
    if get_origin(kind) is list:
        return _value(get_args(kind)[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "\\|".join(str(choice.value) for choice in kind)
    return VALUES.get(kind, "")


if __name__ == "__main__":
    print(cli_reference(), end="")
