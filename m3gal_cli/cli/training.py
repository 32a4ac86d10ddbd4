"""Options of ``pretrain`` and ``finetune``, and the way from options to a finished run."""

from __future__ import annotations

import sys
from typing import Any

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import error, note
from m3gal_cli.cli.dry_run import dry_run
from m3gal_cli.cli.exit_codes import INTERRUPTED
from m3gal_cli.cli.options import option, switch
from m3gal_cli.encoders.checkpoint_lookup import PACKAGED
from m3gal_cli.errors import InputError

TRAINING, RUN = "Training", "Run"
PUBLISHED_PROFILES = {"pretrain": "osm.yaml", "finetune": "paper-finetune.yaml"}
PACKAGED_PROFILES = {"pretrain": "views.yaml", "finetune": "geotes.yaml"}  # for the packaged model
LOSS = (
    "Loss: fused (total_loss), text (text_loss), location (location_loss), or separate: text loss plus location loss."
)
SCHEDULE = "Epochs at which the learning rates are divided by 10: --schedule 40 80 or 40,80."
ENCODE_CHUNK = "Maximum texts with stored activations; others are recomputed. Saves memory, costs time."
RESUME = (
    "Continue a training: auto (the run named by --run-name), a run, a checkpoint or a published .pth.tar file. "
    "A checkpoint of another stage gives its weights only."
)

TRAINING_OPTIONS = (
    o.CONFIG,
    o.SETS,
    o.TEXT_ENCODER,
    o.SEED,
    o.DEVICE,
    option("--epochs", int, "Number of epochs.", TRAINING),
    option("--max-steps", int, "Stop after this many steps; 0: save the initial model without training.", TRAINING),
    option("--batch-size -b", int, "View pairs (pretrain) or queries (finetune) per step.", TRAINING),
    option("--lr", float, "Learning rate of the text encoders.", TRAINING),
    option("--lr-location", float, "Learning rate of the location encoder.", TRAINING),
    option("--schedule", list[str], SCHEDULE, TRAINING),
    option("--loss", str, LOSS, TRAINING),
    option("--momentum", float, "Momentum of SGD.", TRAINING),
    option("--temperature", float, "Softmax temperature T.", TRAINING),
    option("--queue-size", int, "Queue size K: number of past keys that serve as negatives (pretrain).", TRAINING),
    option("--momentum-text", float, "Momentum of the key text encoder (pretrain).", TRAINING),
    option("--momentum-location", float, "Final momentum of the key location encoder (pretrain).", TRAINING),
    option("--momentum-increment", float, "Increase of the location momentum per epoch, from 0 (pretrain).", TRAINING),
    option("--precision", str, "Precision: auto, fp32 or bf16.", TRAINING),
    option("--accumulate", int, "Parts of a batch, processed one after another to save memory.", TRAINING),
    option("--encode-chunk", int, ENCODE_CHUNK, TRAINING),
    o.DATA_DIR,
    o.DATA_SUFFIX,
    o.TEST_DATA_SUFFIX,
    o.DATUM,
    o.RUNS_DIR,
    option("--run-name", str, "Name of the run (default: command and time).", RUN),
    option("--log-every -p", int, "Steps between two logged lines.", RUN),
    option("--save-every", int, "Steps between two checkpoints (default: checkpoints at validations only).", RUN),
    option("--keep", int, "Number of older checkpoints to keep besides the last and the best.", RUN),
    option("--resume", str, RESUME, RUN),
    option("--init", str, "Initialise the weights from this run or checkpoint, or packaged.", RUN),
    switch("--dry-run", "Check settings and data, take one step, report sizes and time; write nothing.", RUN),
    switch("--json", "With --dry-run: print one JSON object instead of tables.", RUN),
    o.GPU,
)


def _default_profile(stage: str, given: dict[str, Any], values: dict[str, Any]) -> str:
    """Return the profile without --config: the published one, if a text encoder or a checkpoint is given.

    The published profiles have settings for the encoder of the published code.
    """
    from m3gal_cli.config.load import load_config

    init = None if values["init"] == PACKAGED else values["init"]
    named = init or values["resume"] or load_config(None, given, values["set"] or ()).model.text_encoder
    profile = (PUBLISHED_PROFILES if named else PACKAGED_PROFILES)[stage]
    if not named:
        note(f"profile: {profile}, from the packaged model (no --config, --init or --text-encoder)")
    return profile


def train(stage: str, values: dict[str, Any]) -> None:
    """Run a stage with the options of its command and print the path of the run on stdout."""
    from m3gal_cli.config.load import load_config

    if values["json"] and not values["dry_run"]:
        raise InputError("--json needs --dry-run", hint="A training prints the path of its run on stdout.")
    given = o.overrides(values)
    if "optim.schedule" in given:
        given["optim.schedule"] = [part for text in given["optim.schedule"] for part in text.split(",") if part]
    config = load_config(values["config"] or _default_profile(stage, given, values), given, values["set"] or ())
    o.quiet_libraries()
    config = o.on_gpu(config, values["gpu"])
    from m3gal_cli.cli.progress import RowProgress
    from m3gal_cli.cli.training_panel import training_listener
    from m3gal_cli.training.pipelines import run_finetune, run_pretrain
    from m3gal_cli.training.stage import StartOptions
    from m3gal_cli.training.trainer import Interrupted

    run_training = {"pretrain": run_pretrain, "finetune": run_finetune}[stage]
    if values["dry_run"]:
        dry_run(run_training, config, values)
        return
    options = StartOptions(values["resume"], values["init"], progress=RowProgress)
    try:
        with training_listener(f"{stage} {config.run.name or ''}".strip()) as listener:
            run = run_training(config, options, listener)
    except Interrupted as stopped:
        again = f"m3gal {stage} … --run-name {config.run.name or stopped.run.name} --resume auto"
        error(f"interrupted at step {stopped.step}; saved {stopped.path}\nContinue with: {again}")
        raise typer.Exit(INTERRUPTED) from None
    if run.main:
        sys.stdout.write(f"{run.path}\n")
