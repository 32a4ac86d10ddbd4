"""The README's table of settings, made from the schema: ``python -m m3gal_cli.config.reference``."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from m3gal_cli.config.load import known_keys


def settings_table() -> str:
    """A Markdown table: dotted name, type, default, meaning; a row a setting, in the schema's order."""
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for name, info in known_keys().items():
        default = info.get_default(call_default_factory=True)
        shown = "" if default in (None, "") else f"`{_plain(default)}`"
        lines.append(f"| `{name}` | {_type(info.annotation)} | {shown} | {info.description or ''} |")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(annotation: Any) -> str:
    """``Literal`` as its choices, optional types without None, anything else by name."""
    origin = get_origin(annotation)
    if origin is Literal:
        return ", ".join(str(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in get_args(annotation) if part is not type(None))
    if origin is list:
        return f"list of {_type(get_args(annotation)[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    names = {"str": "text", "int": "integer", "float": "number", "bool": "true, false"}
    return names.get(getattr(annotation, "__name__", ""), str(annotation))


if __name__ == "__main__":
    print(settings_table(), end="")
