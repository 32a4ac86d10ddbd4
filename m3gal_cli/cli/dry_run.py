"""``--dry-run`` of ``pretrain`` and ``finetune``: what the training would be, on stdout."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from m3gal_cli.cli.console import facts_table, note, out, print_json

if TYPE_CHECKING:
    from m3gal_cli.config.schema import Config
    from m3gal_cli.training.dry_run import Batch, DryRun


def try_out(runner: Callable[..., Any], config: Config, values: dict[str, Any]) -> None:
    """Make a stage ready, take its first step, print what that showed; the weights go with the process."""
    from m3gal_cli.training.dry_run import rehearse
    from m3gal_cli.training.pipelines import Start
    from m3gal_cli.training.trainer import Quiet, Trainer

    found: list[DryRun] = []

    def instead(trainer: Trainer) -> None:
        dry = rehearse(trainer)
        if trainer.run.main:
            found.append(dry)

    runner(config, Start(values["resume"], values["init"], instead), Quiet())
    for dry in found:
        if values["as_json"]:
            print_json(dry.to_json())
            continue
        for title, facts in tables(dry):
            out().print(facts_table(title, facts))
        note("dry run: nothing was written")


def tables(dry: DryRun) -> list[tuple[str, list[tuple[str, str]]]]:
    """Titles and facts."""
    from m3gal_cli.cli.training_panel import duration

    queue = "none" if dry.queue is None else f"{dry.queue[1]:,} keys of text and of place, {dry.queue[0]} wide"
    shapes = [*((name, _batch(batch)) for name, batch in dry.texts.items()), ("queue", queue)]
    start = f", by each of {dry.members} members" if dry.members > 1 else ""
    start += f", {dry.done:,} done" if dry.done else ""
    run = [
        ("rows", f"{dry.rows:,}, in batches of {dry.batch_size:,}"),
        ("steps", f"{dry.steps:,} ({dry.steps_per_epoch:,} an epoch){start}"),
        ("a step", f"{dry.seconds_per_step:.3f} s"),
        ("steps to do", f"{duration(dry.seconds)} at this pace, without validations"),
        ("peak memory", f"{dry.peak_memory_mb:,.0f} MB"),
        ("device", dry.device + (f", {dry.processes} processes" if dry.processes > 1 else "")),
    ]
    of = f"a step of this process, of {dry.processes}" if dry.processes > 1 else "a step"
    return [
        (f"{dry.stage}: shapes of {of}", shapes),
        ("parameters", [(name, f"{count:,}") for name, count in dry.parameters.items()]),
        ("run", run),
    ]


def _batch(batch: Batch) -> str:
    if not batch.texts:
        return "none"
    return f"{batch.texts:,} texts of up to {batch.length} tokens, {batch.tokens:,} tokens in all"
