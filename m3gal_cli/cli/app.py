"""The ``m3gal`` executable: its commands, and exit codes from errors.

0: done; 1: a check failed (``--fail-under``); 2: wrong usage, configuration or input; 130: interrupted after saving.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from m3gal_cli import __version__
from m3gal_cli.cli import config, data, eval_rerank, eval_retrieval, finetune, index, predict, pretrain, runs
from m3gal_cli.cli.console import discard_stdout, error, note, printed_warnings, raise_on_closed_stdout
from m3gal_cli.cli.exit_codes import INTERRUPTED, USAGE
from m3gal_cli.compat.option_names import normalise_spelling
from m3gal_cli.errors import InputError


class Group(TyperGroup):
    """The top-level group: it accepts published spellings, and turns errors into a message and an exit code."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the command line; ``m3gal --help | head -1`` is no error."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:
            discard_stdout()
            raise typer.Exit(0) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take --debug from anywhere in the command line and normalise the spelling of the other options."""
        ctx.meta["m3gal.debug"] = "--debug" in args
        return super().parse_args(ctx, normalise_spelling([a for a in args if a != "--debug"]))

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with printed_warnings():
                return super().invoke(ctx)
        except InputError as wrong:
            if ctx.meta.get("m3gal.debug"):
                traceback.print_exc()
            error(wrong.render())
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader of stdout has closed the pipe
            discard_stdout()
            raise typer.Exit(0) from None


ABOUT = "Match free-typed place queries to the POIs of a table, by text and location (M3GAL)."

app = typer.Typer(
    name="m3gal",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=ABOUT,
    epilog="Add --debug anywhere to see tracebacks. Options of the published scripts work with dash or underscore.",
)
app.add_typer(data.app, name="data")
app.command("pretrain")(pretrain.command)
app.command("finetune")(finetune.command)
app.command("eval-retrieval")(eval_retrieval.command)
app.command("eval-rerank")(eval_rerank.command)
app.command("predict")(predict.command)
app.add_typer(index.app, name="index")
app.add_typer(runs.app, name="runs")
app.add_typer(config.app, name="config")


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"m3gal {__version__}")
        raise typer.Exit


@app.callback(help=ABOUT)
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Declare the options of ``m3gal`` itself."""


def main() -> None:
    """Run ``m3gal``."""
    raise_on_closed_stdout()
    try:
        app(prog_name="m3gal")  # also for python -m m3gal_cli
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(INTERRUPTED)
