"""The settings reference as Markdown, generated from the schema: ``python -m m3gal_cli.config.reference``."""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from m3gal_cli.config.load import ENVIRONMENT_PREFIX
from m3gal_cli.config.options import OPTION_OF
from m3gal_cli.config.schema import Config

HEAD = f"""# Settings

Every setting has a default. Profiles (YAML files, `--config`), environment variables, options and `--set` override
it, in this order. `--set optim.lr=0.1` and `{ENVIRONMENT_PREFIX}OPTIM__LR=0.1` set `optim.lr`.
`m3gal config show` prints the resolved settings, `m3gal config list` the packaged profiles.
"""
TYPE_NAMES = {"str": "text", "int": "integer", "float": "number", "bool": "true, false"}


def settings_reference() -> str:
    """Return the reference of all settings as Markdown: one table per section, in the order of the schema."""
    return "\n".join([HEAD, *_sections(Config, "")])


def _sections(model: type[BaseModel], name: str) -> list[str]:
    """Return the table of a section, then those of its subsections."""
    rows, below = [], []
    for field, info in model.model_fields.items():
        dotted = f"{name}.{field}" if name else field
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            below += _sections(info.annotation, dotted)
            continue
        default = info.get_default(call_default_factory=True)
        shown = (
            "" if default in (None, "", []) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
        )
        option = f" Option: `{OPTION_OF[dotted]}`." if dotted in OPTION_OF else ""
        rows.append(f"| `{dotted}` | {_type_name(info.annotation)} | {shown} | {info.description or ''}{option} |")
    title = f"## {name}\n\n{' '.join((model.__doc__ or '').split())}\n" if name else "## General\n"
    table = ["| setting | type | default | meaning |", "|---|---|---|---|", *rows]
    return [title, "\n".join(table) + "\n", *below]


def _type_name(annotation: Any) -> str:
    """Return a type in words: the choices of a Literal, the parts of a union without None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _type_name(get_args(annotation)[0])
    if origin is Literal:
        return ", ".join(str(choice) for choice in get_args(annotation))
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(part) for part in get_args(annotation) if part is not type(None))
    if origin is list:
        return f"list of {_type_name(get_args(annotation)[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return ", ".join(annotation.model_fields)
    return TYPE_NAMES[annotation.__name__]


if __name__ == "__main__":
    print(settings_reference(), end="")
