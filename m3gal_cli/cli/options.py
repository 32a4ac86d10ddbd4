"""Declarations of options and arguments, the options that several commands share, and the settings that they set."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from m3gal_cli.cli.console import note
from m3gal_cli.compat.option_names import EARLIER_NAMES, IGNORED_IF_ABSENT, PLAIN_NAME_OF, SWITCHES_WITHOUT_EFFECT

if TYPE_CHECKING:
    from m3gal_cli.config.schema import Config

DATA, PUBLISHED = "Data", "Option names of the published code"
NO_EFFECT = "Accepted without effect."


def parameter_name(names: str) -> str:
    """Return the parameter of an option: ``--batch-size -b`` is ``batch_size``, ``--with`` is ``with_`` (a keyword)."""
    name = names.split(maxsplit=1)[0].partition("/")[0].removeprefix("--").replace("-", "_")
    return f"{name}_" if iskeyword(name) else name


def option_names(info: Any) -> list[str]:
    """Return the names of an option; typer.Option takes the first one as its default."""
    return [info.default, *(info.param_decls or ())]


def option(
    names: str, kind: Any, text: str, panel: str | None = None, *, default: Any = None, **more: Any
) -> Parameter:
    """Return the declaration of an option.

    Args:
        names: Names of the option: ``--batch-size -b`` or ``--bm25/--no-bm25``.
        kind: Type of the value; bool for a switch.
        text: Help text.
        panel: Panel of the help. Default: the first one.
        default: Value without the option.
        more: Further arguments of typer.Option.
    """
    info = typer.Option(*names.split(), help=text, rich_help_panel=panel, **more)
    value: Any = kind | None if default is None else kind
    return Parameter(parameter_name(names), Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[value, info])


def switch(name: str, text: str, panel: str | None = None) -> Parameter:
    """Return the declaration of an option without a value, which is False by default."""
    return option(name, bool, text, panel, default=False)


def argument(name: str, text: str, *, kind: Any = Path, default: Any = Parameter.empty, **more: Any) -> Parameter:
    """Return the declaration of an argument; without a default it is required."""
    annotation = Annotated[kind, typer.Argument(help=text, show_default=False, **more)]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


CONFIG = option("--config -c", str, "Profile: a YAML file or a packaged profile (see m3gal config list).")
SETS = option("--set", list[str], "Set any setting, e.g. --set optim.lr=0.1.", metavar="KEY=VALUE")
TEXT_ENCODER = option(
    "--text-encoder",
    str,
    "transformers directory or hub name; scratch: a small untrained encoder with its own vocabulary (default: that of "
    "the packaged model, unless the profile has one).",
)
SEED = option("--seed", int, "Random seed for weight initialisation, data order, sampling and the bootstrap.")
DEVICE = option("--device", str, "Device: auto, cpu, cuda, cuda:1 or mps.")
GPU = option("--gpu", int, "Number of the CUDA device. Without this device, --device auto applies.", PUBLISHED)
RUNS_DIR = option("--runs-dir", str, "Folder of the runs.")
DATA_DIR = option("--data-dir", str, "Folder that is searched for files with the published names.", DATA)
DATA_SUFFIX = option("--data-suffix", str, "Suffix of the data files: same_poi_views_SUFFIX.csv.", DATA)
TEST_DATA_SUFFIX = option(
    "--test-data-suffix", str, "Suffix of validation and test records: test_dataset_use_gis_SUFFIX.", DATA
)
DATUM = option("--datum", str, "Datum of the input coordinates: wgs84, gcj02 or bd09.", DATA)
POIS = option("--pois", Path, "POI table of any format and schema, or an OpenStreetMap extract.", DATA)
COLUMNS = option(
    "--columns",
    str,
    "Columns of the POI table by role, e.g. 'name=title, address={street} {no}, {city}, lat=y, lng=x, id=shop_no'.",
    DATA,
    metavar="ROLE=COLUMN,…",
)
SKIP_BAD = option("--skip-bad", bool, "Leave out invalid rows of tables; list them in STEM.bad.jsonl.", DATA)
LABELS = option(
    "--labels", Path, "Labels (query, poi_id) in place of candidate records: a table or a BEIR folder.", DATA
)
CHECKPOINT = option(
    "--checkpoint",
    Path,
    "Run, checkpoint directory, published .pth.tar file, or packaged: the packaged model (default: the best checkpoint "
    "of the newest run, else packaged).",
)
INDEX_DIR = option(
    "--index-dir",
    str,
    "Folder of the index (default: index/TABLE in the run, else in the working folder). Without --checkpoint, an index "
    "that exists gives the model.",
    DATA,
)
AS_JSON = switch("--json", "Print one JSON object on stdout instead of tables.")
RERANK = option(
    "--rerank/--no-rerank",
    bool,
    "Rerank the candidates with the reranker network (default: on, if the checkpoint has one).",
)


def with_options(
    *parameters: Parameter, other_names: bool = False
) -> Callable[[Callable[[dict[str, Any]], None]], Callable[..., None]]:
    """Return a decorator for a command that takes the values of its options by parameter name.

    Args:
        parameters: Declarations of the options and arguments, in the order of the help.
        other_names: Also accept the published names, in a help panel of their own behind all others, and the names of
            earlier versions, which help does not show.
    """
    others = _other_names(parameters) if other_names else []

    def decorate(command: Callable[[dict[str, Any]], None]) -> Callable[..., None]:
        def run(**values: Any) -> None:
            for parameter, target in others:
                value = values.pop(parameter.name)
                if value is not None and target is not None:
                    values[target] = value
            command(values)

        run.__signature__ = Signature([*parameters, *(parameter for parameter, _ in others)])  # type: ignore[attr-defined]
        run.__doc__ = command.__doc__
        return run

    return decorate


def _other_names(parameters: tuple[Parameter, ...]) -> list[tuple[Parameter, str | None]]:
    """Return the options with other names, each with the parameter whose value it gives; None: without effect."""
    plain = {parameter.name: parameter for parameter in parameters}
    others: list[tuple[Parameter, str | None]] = []
    for name, plain_name in (PLAIN_NAME_OF | EARLIER_NAMES).items():
        target = plain.get(parameter_name(plain_name))
        if target is not None:
            kind, info = get_args(target.annotation)
            names = f"{name}/--no-{name[2:]}" if "/" in option_names(info)[0] else name
            text, hidden = f"Same as {plain_name}.", name in EARLIER_NAMES
            others.append((option(names, kind, text, PUBLISHED, hidden=hidden), target.name))
        elif name in IGNORED_IF_ABSENT:
            others.append((option(name, int, NO_EFFECT, PUBLISHED), None))
    return others + [(switch(name, NO_EFFECT, PUBLISHED), None) for name in SWITCHES_WITHOUT_EFFECT]


def overrides(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings by dotted name that the given options set; None means that an option was not given."""
    from m3gal_cli.config.options import SETTING_OF

    given = {setting: values.get(parameter_name(option)) for option, setting in SETTING_OF.items()}
    return {k: str(v) if isinstance(v, Path) else v for k, v in given.items() if v is not None and v != []}


def on_gpu(config: Config, gpu: int | None) -> Config:
    """Return the settings with the device of --gpu, or with the device auto and a message if it does not exist."""
    if gpu is None:
        return config
    import torch

    if torch.cuda.is_available() and gpu < torch.cuda.device_count():
        return config.model_copy(update={"device": f"cuda:{gpu}"})
    note(f"--gpu {gpu}: no such CUDA device; using {'auto' if torch.cuda.is_available() else 'the CPU'}")
    return config.model_copy(update={"device": "auto"})


def quiet_libraries() -> None:
    """Keep messages and progress bars of libraries off the terminal.

    transformers reads its verbosity from the environment when it is imported, so it need not be imported here.
    """
    import os
    import sys
    import warnings

    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    if "transformers" in sys.modules:
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=".*pin_memory.*")
    warnings.filterwarnings("ignore", message="Detected pickle protocol")
