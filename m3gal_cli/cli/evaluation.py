"""Steps that ``eval-rerank``, ``eval-retrieval`` and ``predict`` share: open the checkpoint, check, report."""

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

SCORE_KINDS = ("text", "location", "fused", "reranked", "bm25")
EARLIER_KINDS = {"hybrid": "reranked"}


EVALUATION_OPTIONS = (
    o.CHECKPOINT,
    o.option("--test", Path, "Candidate records to evaluate on.", o.DATA),
    o.DATA_DIR,
    o.DATA_SUFFIX,
    o.TEST_DATA_SUFFIX,
    o.DATUM,
    o.CONFIG,
    o.SETS,
    o.TEXT_ENCODER,
    o.option("--bm25/--no-bm25", bool, "Evaluate BM25 as a baseline."),
    o.RERANK,
    o.AS_JSON,
    o.option(
        "--fail-under",
        list[str],
        "Exit with code 1 if a metric is lower: recall@1=0.5 (fused score) or reranked.mrr@5=0.4.",
        metavar="METRIC=VALUE",
    ),
    o.RUNS_DIR,
    o.SEED,
    o.DEVICE,
    o.GPU,
)


def open_session(values: dict[str, Any], load: bool = True) -> Session:
    """Return the session for the options of a command. Raises InputError.

    With ``load``, the whole model is loaded now, so that an unreadable checkpoint is reported before data are read.
    """
    from m3gal_cli.matching import session

    o.quiet_libraries()
    opened = session.open_session(
        values["checkpoint"], o.overrides(values), values["set"] or (), values["config"], note
    )
    opened.config = o.on_gpu(opened.config, values["gpu"])
    if load:
        _ = opened.encoder
    return opened


def records_for(config: Config) -> tuple[list[Record], Path]:
    """Return the test records, else the validation records, and their file. Raises InputError if there are none."""
    from m3gal_cli.config.paths import find_records
    from m3gal_cli.data.records import read_records

    path = find_records(config.data, "test") or find_records(config.data, "val")
    if path is None:
        hint = "Give --test FILE, or --data-dir with the folder that holds test_dataset*.jsonl."
        raise InputError("no records to evaluate on", where=config.data.dir, hint=hint)
    return read_records(path, config.data.datum), path


def parse_checks(texts: list[str] | None) -> list[tuple[str, str, float]]:
    """Return the checks of --fail-under as (score, metric, value); the default score is fused. Raises InputError."""
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
            raise InputError(f"--fail-under {text!r} is not a check", hint=hint)
        checks.append((EARLIER_KINDS.get(kind, kind) if dot else "fused", metric, value))
    check_known(checks)
    return checks


def score_kinds(session: Session) -> list[str]:
    """Return the kinds of score that the evaluations of a session have."""
    absent = {"bm25": not session.config.eval.bm25, "reranked": session.weights is None}
    return [kind for kind in SCORE_KINDS if not absent.get(kind)]


def check_known(
    checks: list[tuple[str, str, float]], candidates: int | None = None, kinds: Sequence[str] = SCORE_KINDS
) -> None:
    """Refuse checks of other kinds of score, and of recall@k with k above ``candidates``. Raises InputError."""
    from m3gal_cli.evaluation.metrics import metric_names

    names = metric_names(candidates)
    for kind, metric, _ in checks:
        if kind not in kinds or metric not in names:
            hint = f"Scores: {', '.join(kinds)}; metrics: {', '.join(names)}."
            missing = f"score {kind!r}" if kind not in kinds else f"metric {metric!r}"
            raise InputError(f"--fail-under: this evaluation has no {missing}", hint=hint)


def report(
    evaluation: Evaluation, session: Session, title: str, as_json: bool, checks: list[tuple[str, str, float]]
) -> None:
    """Print the evaluation; exit with code 1 if a check fails."""
    if as_json:
        print_json(evaluation.to_json(str(session.checkpoint)))
    else:
        out().print(metrics_table(title, evaluation.metrics, evaluation.intervals))
        for kind, slices in (("fused", evaluation.slices), ("reranked", evaluation.reranked_slices)):
            if any(row["n_queries"] < evaluation.n_queries for row in slices.values()):
                out().print(metrics_table(f"{kind} score by query location", slices, row_header="query location"))
    for line in evaluation.notes:
        note(line)
    failed = [(k, m, v) for k, m, v in checks if evaluation.metrics[k][m] < v]
    for kind, metric, value in failed:
        error(f"{kind} {metric} is {evaluation.metrics[kind][metric]:.4f}, under {value:g}")
    if failed:
        raise typer.Exit(CHECK_FAILED)
