"""``m3gal config``: show the resolved settings and list the packaged profiles."""

from __future__ import annotations

import sys
from typing import Any

import typer

from m3gal_cli.cli.console import facts_table, out, print_json
from m3gal_cli.cli.options import AS_JSON, CONFIG, SETS, with_options

app = typer.Typer(no_args_is_help=True, help="Show settings and profiles.")


@app.command("show")
@with_options(CONFIG, SETS, AS_JSON)
def show(values: dict[str, Any]) -> None:
    """Print all settings as YAML: defaults, overridden by the profile, the environment and --set."""
    from m3gal_cli.config.load import dump_config, load_config

    settings = load_config(values["config"], sets=values["set"] or ())
    if values["json"]:
        print_json(settings.model_dump())
    else:
        sys.stdout.write(dump_config(settings))


@app.command("list")
@with_options(AS_JSON)
def list_profiles(values: dict[str, Any]) -> None:
    """List the packaged profiles, which --config takes by name."""
    from m3gal_cli.config.load import profile_names, profile_summary

    profiles = {name: profile_summary(name) for name in profile_names()}
    if values["json"]:
        print_json(profiles)
    else:
        out().print(facts_table("profiles", list(profiles.items())))
