"""What the evaluations and ``predict`` share: the checkpoint, its data, the check of ``--fail-under``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from m3gal_cli.cli import options as o
from m3gal_cli.cli.console import error, metrics_table, note, out, print_json
from m3gal_cli.cli.exit_codes import CHECK_FAILED
from m3gal_cli.errors import InputError

if TYPE_CHECKING:
    from m3gal_cli.config.schema import Config
    from m3gal_cli.data.records import Record
    from m3gal_cli.evaluation.result import Evaluation
    from m3gal_cli.matching.session import Session

KINDS = ("text", "location", "fused", "reranked", "bm25")


def open_session(values: dict[str, Any], load: bool = True) -> Session:
    """The session that the options of a command ask for; ``load``: with its whole model at once. Raises InputError."""
    from m3gal_cli.matching import session

    o.quiet_libraries()
    asked = session.open_session(
        values["checkpoint"], o.overrides(values), values["set_"] or (), values["config"], note
    )
    asked.config = o.on_gpu(asked.config, values["gpu"])
    if load:  # a checkpoint that cannot be read is told of before its data
        _ = asked.encoder
    return asked


def records_for(config: Config) -> tuple[list[Record], Path]:
    """The records to evaluate on: test, else val. Raises InputError where there is neither."""
    from m3gal_cli.config.paths import find_records
    from m3gal_cli.data.records import read_records

    path = find_records(config.data, "test") or find_records(config.data, "val")
    if path is None:
        hint = "Give --test-dataset-filepath FILE, or --data-dir with the folder that holds test_dataset*.jsonl."
        raise InputError("no records to evaluate on", where=config.data.dir, hint=hint)
    return read_records(path, config.data.datum), path


def parse_checks(texts: list[str] | None) -> list[tuple[str, str, float]]:
    """``recall@1=0.5`` or ``text.mrr@5=0.4`` as (kind, metric, value). Raises InputError, also for unknown names."""
    checks: list[tuple[str, str, float]] = []
    for text in texts or ():
        name, equals, number = text.partition("=")
        kind, dot, metric = name.strip().rpartition(".")
        try:
            value = float(number)
        except ValueError:
            equals = ""
        if not equals or not metric:
            hint = "Write METRIC=VALUE, e.g. recall@1=0.5 or text.mrr@5=0.4."
            raise InputError(f"--fail-under {text!r} is no check", hint=hint)
        checks.append((kind if dot else "fused", metric, value))
    check_known(checks)
    return checks


def kinds_of(session: Session) -> list[str]:
    """Return the kinds of score that the evaluations of a session have."""
    absent = {"bm25": not session.config.eval.bm25, "reranked": session.weights is None}
    return [kind for kind in KINDS if not absent.get(kind)]


def check_known(
    checks: list[tuple[str, str, float]], candidates: int | None = None, kinds: Sequence[str] = KINDS
) -> None:
    """Raise InputError where a check is of a score or metric that there will not be; None: as candidates may be."""
    if not checks:
        return
    from m3gal_cli.evaluation.metrics import metric_names

    names = metric_names(candidates)
    for kind, metric, _ in checks:
        if kind not in kinds or metric not in names:
            hint = f"Scores: {', '.join(kinds)}; metrics: {', '.join(names)}."
            raise InputError(f"--fail-under: no metric {metric!r} of {kind!r}", hint=hint)


def report(
    evaluation: Evaluation, session: Session, title: str, as_json: bool, checks: list[tuple[str, str, float]]
) -> None:
    """Print the evaluation; exit 1 where a check fails."""
    if as_json:
        print_json(evaluation.to_json(str(session.checkpoint)))
    else:
        out().print(metrics_table(title, evaluation.metrics, evaluation.intervals))
        for kind, slices in (("fused", evaluation.slices), ("reranked", evaluation.reranked_slices)):
            if any(row["n_queries"] < evaluation.n_queries for row in slices.values()):
                out().print(metrics_table(f"{kind}, by where the query was typed", slices, of="queries typed"))
    for line in evaluation.notes:
        note(line)
    failed = [(k, m, v) for k, m, v in checks if evaluation.metrics[k][m] < v]
    for kind, metric, value in failed:
        error(f"{kind} {metric} is {evaluation.metrics[kind][metric]:.4f}, under {value:g}")
    if failed:
        raise typer.Exit(CHECK_FAILED)
