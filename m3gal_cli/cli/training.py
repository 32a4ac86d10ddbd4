"""What ``pretrain`` and ``finetune`` share: options, progress, the way from settings to a run."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import error, note
from m3gal_cli.cli.dry_run import try_out
from m3gal_cli.cli.exit_codes import INTERRUPTED
from m3gal_cli.errors import InputError

Epochs = Annotated[int | None, typer.Option(help="Passes over the rows.", rich_help_panel=o.TRAINING)]
Lr = Annotated[float | None, typer.Option(help="Rate of the text encoders.", rich_help_panel=o.TRAINING)]
GcLr = Annotated[float | None, typer.Option(help="Rate of the location encoder.", rich_help_panel=o.TRAINING)]
BatchSize = Annotated[
    int | None, typer.Option("--batch-size", "-b", help="Rows (finetune: queries) a step.", rich_help_panel=o.TRAINING)
]
MomentumOption = Annotated[float | None, typer.Option(help="Of SGD.", rich_help_panel=o.TRAINING)]
Schedule = Annotated[
    list[str] | None, typer.Option(help="Epochs at which rates fall to a tenth: 40 80.", rich_help_panel=o.TRAINING)
]
Loss = Annotated[str | None, typer.Option(help="fused (total_loss), text or location.", rich_help_panel=o.TRAINING)]
Precision = Annotated[str | None, typer.Option(help="auto, fp32 or bf16.", rich_help_panel=o.TRAINING)]
Accumulate = Annotated[
    int | None, typer.Option(help="Parts a batch is taken in, to save memory.", rich_help_panel=o.TRAINING)
]
EncodeChunk = Annotated[
    int | None,
    typer.Option(help="Texts whose activations are held at once; slower, saves memory.", rich_help_panel=o.TRAINING),
]
MaxSteps = Annotated[
    int | None, typer.Option(help="Stop after so many steps; 0: save as it starts.", rich_help_panel=o.TRAINING)
]
MocoM = Annotated[float | None, typer.Option(help="Momentum of the key text encoder.", rich_help_panel=o.TRAINING)]
MocoGcM = Annotated[float | None, typer.Option(help="… of the key location encoder.", rich_help_panel=o.TRAINING)]
MocoK = Annotated[int | None, typer.Option(help="Queue length K.", rich_help_panel=o.TRAINING)]
MocoT = Annotated[float | None, typer.Option(help="Temperature T.", rich_help_panel=o.TRAINING)]
MInc = Annotated[float | None, typer.Option(help="Growth an epoch of --moco-gc-m, from 0.", rich_help_panel=o.TRAINING)]
PrintFreq = Annotated[
    int | None, typer.Option("--print-freq", "-p", help="Steps between logged lines.", rich_help_panel=o.RUN)
]
SaveEvery = Annotated[
    int | None, typer.Option(help="Steps between checkpoints, besides those at validations.", rich_help_panel=o.RUN)
]
Keep = Annotated[int | None, typer.Option(help="Older checkpoints kept besides last and best.", rich_help_panel=o.RUN)]
OutputName = Annotated[str | None, typer.Option(help="Name of the run.", rich_help_panel=o.RUN)]
Resume = Annotated[
    str | None,
    typer.Option(
        help="'auto' continues the run of this name; a run, checkpoint or published .pth.tar goes on from there "
        "(of another stage: with its weights alone).",
        rich_help_panel=o.RUN,
    ),
]
Init = Annotated[
    str | None, typer.Option(help="Start from the weights of this run or checkpoint.", rich_help_panel=o.RUN)
]
DryRun = Annotated[
    bool,
    typer.Option(
        help="Check settings and data, take one step, tell sizes and times; write nothing.", rich_help_panel=o.RUN
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="With --dry-run: one JSON object instead of tables.", rich_help_panel=o.RUN)
]


def _shared(
    config: o.ConfigName = None,
    set_: o.Sets = None,
    epochs: Epochs = None,
    lr: Lr = None,
    gc_lr: GcLr = None,
    batch_size: BatchSize = None,
    momentum: MomentumOption = None,
    schedule: Schedule = None,
    loss: Loss = None,
    precision: Precision = None,
    accumulate: Accumulate = None,
    encode_chunk: EncodeChunk = None,
    max_steps: MaxSteps = None,
    moco_m: MocoM = None,
    moco_gc_m: MocoGcM = None,
    moco_k: MocoK = None,
    moco_t: MocoT = None,
    m_inc: MInc = None,
    text_encoder: o.TextEncoder = None,
    data_dir: o.DataDir = None,
    data_suffix: o.DataSuffix = None,
    test_data_suffix: o.TestDataSuffix = None,
    datum: o.DatumName = None,
    print_freq: PrintFreq = None,
    save_every: SaveEvery = None,
    keep: Keep = None,
    output_name: OutputName = None,
    runs_dir: o.RunsDir = None,
    resume: Resume = None,
    init: Init = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    seed: o.Seed = None,
    gpu: o.Gpu = None,
    device: o.Device = None,
    bert_from_local: o.BertFromLocal = False,
) -> None:
    """The options of both stages, the published command lines among them: their names and types are read off here."""


def command_of(
    stage: str, default_profile: str, text: str, more: Sequence[inspect.Parameter] = ()
) -> Callable[..., None]:
    """The command of a stage, with options of its own behind those of both."""

    def command(**values: Any) -> None:
        train(stage, default_profile, values)

    shared = inspect.signature(_shared, eval_str=True)
    command.__signature__ = shared.replace(parameters=[*shared.parameters.values(), *more])  # type: ignore[attr-defined]
    command.__doc__ = text
    return command


def _weigh(run: Path) -> None:
    """Learn the weights of the hybrid score of a run's best checkpoint, where it has validation records."""
    from m3gal_cli.cli.progress import RowProgress
    from m3gal_cli.matching.session import open_session

    session = open_session(run, {}, log=note)
    try:
        with RowProgress("weighing") as progress:
            weights = session.learn_weights(progress)
    except InputError as problem:  # the run is whole without them
        note(f"no hybrid score: {problem}")
        return
    if weights is not None:
        known = "  ".join(f"{name} {value:.2f}" for name, value in weights.named().items())
        before = f" after {weights.before:,} training queries" if weights.before else ""
        note(f"hybrid score, learned on {weights.queries:,} validation queries{before}: {known}")


def train(stage: str, default_profile: str, values: dict[str, Any]) -> None:
    """Run a stage from the arguments of its command; prints the run's path on stdout."""
    from m3gal_cli.config.load import load_config

    if values["as_json"] and not values["dry_run"]:
        raise InputError("--json needs --dry-run", hint="A training prints its run's path on stdout.")
    given = o.overrides(values)
    if "optim.schedule" in given:
        given["optim.schedule"] = [part for text in given["optim.schedule"] for part in text.split(",") if part]
    config = load_config(values["config"] or default_profile, given, values["set_"] or ())
    o.quiet_libraries()
    config = o.on_gpu(config, values["gpu"])
    from m3gal_cli.cli.progress import RowProgress
    from m3gal_cli.cli.training_panel import training_listener
    from m3gal_cli.training.pipelines import Start, run_finetune, run_pretrain
    from m3gal_cli.training.trainer import Interrupted

    runner = {"pretrain": run_pretrain, "finetune": run_finetune}[stage]
    if values["dry_run"]:
        try_out(runner, config, values)
        return
    start = Start(values["resume"], values["init"], progress=lambda: RowProgress("weighing before training"))
    try:
        with training_listener(f"{stage} {config.run.name or ''}".strip()) as listener:
            run = runner(config, start, listener)
    except Interrupted as stopped:
        again = f"m3gal {stage} … --output-name {config.run.name or stopped.run.name} --resume auto"
        error(f"interrupted at step {stopped.step}; saved {stopped.path}\nContinue with: {again}")
        raise typer.Exit(INTERRUPTED) from None
    if run.main:
        _weigh(run.path)
        sys.stdout.write(f"{run.path}\n")
