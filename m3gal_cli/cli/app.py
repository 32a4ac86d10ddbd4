"""The ``m3gal`` executable: its commands, and the way from errors to exit codes.

0 done; 1 a check failed (``--fail-under``); 2 wrong usage, configuration or input; 130 interrupted after saving.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from m3gal_cli import __version__
from m3gal_cli.cli.console import error, forget_stdout, note, pass_on_closed_pipes
from m3gal_cli.cli.exit_codes import INTERRUPTED, USAGE
from m3gal_cli.compat.option_names import normalise
from m3gal_cli.errors import InputError


class Group(TyperGroup):
    """The top-level group: published option spellings in, errors out as one or two lines and an exit code."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        try:
            return super().make_context(info_name, args, parent, **extra)
        except BrokenPipeError:  # --help | head -1
            forget_stdout()
            raise typer.Exit(0) from None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta["m3gal.debug"] = "--debug" in args
        return super().parse_args(ctx, normalise([a for a in args if a != "--debug"]))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except InputError as wrong:
            if ctx.meta.get("m3gal.debug"):
                traceback.print_exc()
            error(wrong.render())
            raise typer.Exit(USAGE) from None
        except KeyboardInterrupt:
            error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:  # the reader of our output has seen enough: no error
            forget_stdout()
            raise typer.Exit(0) from None


app = typer.Typer(
    name="m3gal",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Match what people type to the place they mean. M3GAL: momentum multi-modal geographical alignment.",
    epilog="--debug anywhere shows tracebacks. Options of the published scripts work with dash or underscore.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"m3gal {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Match what people type to the place they mean. M3GAL: momentum multi-modal geographical alignment."""


def _register() -> None:
    from m3gal_cli.cli import data, eval_rerank, eval_retrieval, finetune, predict, pretrain

    app.add_typer(data.app, name="data")
    app.command("pretrain")(pretrain.command)
    app.command("finetune")(finetune.command)
    app.command("eval-retrieval")(eval_retrieval.command)
    app.command("eval-rerank")(eval_rerank.command)
    app.command("predict")(predict.command)


_register()


def main() -> None:
    """Entry point of the ``m3gal`` executable."""
    pass_on_closed_pipes()
    try:
        app()
    except KeyboardInterrupt:
        note("interrupted")
        sys.exit(INTERRUPTED)
