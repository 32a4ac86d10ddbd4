"""What README and Makefile say is so: commands parse, targets and settings exist, the settings are the schema's."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from m3gal_cli.cli.app import app
from m3gal_cli.compat.option_names import normalise
from m3gal_cli.config.load import known_keys, load_config, profile_names
from m3gal_cli.config.reference import settings_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"^```sh\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL))


def commands(text: str) -> list[str]:
    """The ``m3gal …`` command lines in shell text, comments and pipes cut off."""
    found = re.findall(r"(?:^|\| |&& )(m3gal [^#|\n]*)", text.replace("\\\n", " "), flags=re.MULTILINE)
    return sorted({line.strip() for line in found})


def parsed(line: str) -> TyperCommand:
    """The command that a line names, its options parsed but not run."""
    words = normalise(shlex.split(line)[1:])
    command = typer.main.get_command(app)
    while isinstance(command, TyperGroup):
        name = words.pop(0)
        assert name in command.commands, f"no command {name!r}"
        command = command.commands[name]
    assert isinstance(command, TyperCommand)
    context = command.make_context("m3gal", words)
    profile = context.params.get("config")
    assert profile is None or profile in profile_names()
    load_config(profile, sets=context.params.get("set_") or ())
    return command


@pytest.mark.parametrize("line", commands(SHELL + "\n" + MAKEFILE))
def test_commands_parse(line: str) -> None:
    assert parsed(line).callback is not None


def test_every_command_is_shown() -> None:
    shown = {parsed(line).name for line in commands(SHELL)}
    assert {"osm", "geotes", "inspect", "pretrain", "finetune", "eval-retrieval", "eval-rerank", "predict"} <= shown


def test_a_wrong_command_is_noticed() -> None:
    with pytest.raises(typer._click.exceptions.NoSuchOption):
        parsed("m3gal pretrain --no-such-option 3")


def test_make_targets_exist() -> None:
    wanted = set(re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE))
    assert {"demo", "test"} <= wanted
    assert wanted <= set(re.findall(r"^([a-z]+):", MAKEFILE, flags=re.MULTILINE))


def test_the_settings_table_is_the_schemas() -> None:
    assert settings_table() in README, "python -m m3gal_cli.config.reference prints the new one"


def mapping() -> list[tuple[set[str], set[str]]]:
    """Options and settings of each row of the table of published options."""
    part = README.split("| published option | setting |")[1].split("\n\n")[0]
    rows = [line.strip("|").split("|") for line in part.splitlines() if line.startswith("| `--")]
    return [
        (set(re.findall(r"`(--[a-z0-9-]+)", left)), set(re.findall(r"`([a-z_]+\.[a-z_]+)`", right)))
        for left, right in rows
    ]


def test_mapped_settings_exist() -> None:
    assert set().union(*(settings for _options, settings in mapping())) <= set(known_keys())


def test_every_published_option_is_mapped(shared: Path) -> None:
    page = (shared / "published" / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^python -m .*$", page, flags=re.MULTILINE)
    published = {word.replace("_", "-") for line in lines for word in re.findall(r"--[\w-]+", line)}
    assert published <= set().union(*(options for options, _settings in mapping()))
