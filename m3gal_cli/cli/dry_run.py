"""``--dry-run`` of ``pretrain`` and ``finetune``: sizes and times of the training, on stdout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from m3gal_cli.cli.console import duration, facts_table, note, out, print_json

if TYPE_CHECKING:
    from m3gal_cli.config.schema import Config
    from m3gal_cli.training.dry_run import DryRun, TextBatch
    from m3gal_cli.training.trainer import Trainer


def dry_run(run_training: Callable[..., Any], config: Config, values: dict[str, Any]) -> None:
    """Prepare a training, take its first step and print the measurements; the weights are discarded."""
    from m3gal_cli.training.dry_run import take_dry_run
    from m3gal_cli.training.stage import StartOptions

    results: list[DryRun] = []

    def measure(trainer: Trainer) -> None:
        result = take_dry_run(trainer)
        if trainer.run.main:
            results.append(result)

    run_training(config, StartOptions(values["resume"], values["init"], measure))
    for result in results:
        if values["json"]:
            print_json(result.to_json())
            continue
        for title, facts in tables(result):
            out().print(facts_table(title, facts))
        note("dry run: nothing was written")


def tables(result: DryRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return titles and rows of the tables."""
    queue = "none" if result.queue is None else f"{result.queue[1]:,} text and location keys, {result.queue[0]} wide"
    shapes = [*((name, _batch(batch)) for name, batch in result.texts.items()), ("queue", queue)]
    start = f", for each of {result.members} trainings" if result.members > 1 else ""
    start += f", {result.done:,} done" if result.done else ""
    run = [
        ("rows", f"{result.rows:,}, in batches of {result.batch_size:,}"),
        ("steps", f"{result.steps:,} ({result.steps_per_epoch:,} per epoch){start}"),
        ("time per step", f"{result.seconds_per_step:.3f} s"),
        ("time left", f"{duration(result.seconds)}, without validations"),
        ("peak memory", f"{result.peak_memory_mb:,.0f} MB"),
        ("device", result.device + (f", {result.processes} processes" if result.processes > 1 else "")),
    ]
    step = f"a step of one of {result.processes} processes" if result.processes > 1 else "a step"
    return [
        (f"{result.stage}: shapes of {step}", shapes),
        ("parameters", [(name, f"{count:,}") for name, count in result.parameters.items()]),
        ("run", run),
    ]


def _batch(batch: TextBatch) -> str:
    if not batch.texts:
        return "none"
    return f"{batch.texts:,} texts of up to {batch.length} tokens, {batch.tokens:,} tokens in total"
